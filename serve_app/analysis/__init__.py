"""The result of a video analysis: what it is, and how it is put together."""
