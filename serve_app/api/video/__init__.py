"""Routes of video jobs and of synchronous analyses."""
