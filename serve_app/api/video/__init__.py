"""Routes of video jobs."""
