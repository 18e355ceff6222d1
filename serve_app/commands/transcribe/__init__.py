"""`serve-app transcribe FOLDER`: many files over HTTP, resumable.

    command  arguments
    prepare  the files, the journal, the client
    run      workers, summary
    routes   one file: an upload, or a video job
    search   the files, and which of them are recordings
    batch    outcomes, journal, results
    report   standard output, and what was passed over

A killed run loses only the files in work: a worker records each outcome before it takes the next file.
"""
