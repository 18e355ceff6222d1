"""`from stt_engine import WhisperSTT`, as in the package that serve_app replaces."""

from serve_app import WhisperSTT

__all__ = ["WhisperSTT"]
