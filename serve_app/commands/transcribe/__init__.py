"""Many files over HTTP: `serve-app transcribe FOLDER`.

    media_files   which files, and whether they changed
    outcome       what became of one file
    journal       what was done, crash-safe; results are made from it
    patience      which failures are worth another try, and when
    routes        how one file is put into words: by an upload, or by a video job
    run           workers, and the one thread that writes
    interruption  Ctrl-C between two writes, never in one
    results_file  the two files that others read
    command, show the command line's part

Only the main thread writes. A run that is killed loses the files in flight and nothing else: each outcome is on the
disk before it is counted.
"""
