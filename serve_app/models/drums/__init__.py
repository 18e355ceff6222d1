"""Drum transcription: from a recording to kick, snare and hi-hat as General MIDI."""
