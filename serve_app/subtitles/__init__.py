"""Subtitles and transcripts from the words of an analysis."""
