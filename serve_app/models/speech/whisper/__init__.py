"""Whisper: checkpoints in every form, and three libraries that run them."""
