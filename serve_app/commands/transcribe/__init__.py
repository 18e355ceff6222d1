"""`serve-app transcribe FOLDER`: many files over HTTP, resumable.

    command  the arguments
    run      the run: what is left to do, workers, summary
    routes   how one file is transcribed: by an upload, or by a video job
    batch    files, outcomes, journal, results

A run that is killed loses the files in work and nothing else: a worker records each outcome before it takes the next.
"""
