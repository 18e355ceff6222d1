"""Train the speaker embedding of the diarization pipeline, and measure it."""
