"""Routes of drum transcription."""
