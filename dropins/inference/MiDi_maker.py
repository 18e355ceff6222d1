"""`from inference.MiDi_maker import drum_wav_to_midi, InferenceConfig`, as in the package that serve_app replaces."""

from serve_app import InferenceConfig, drum_wav_to_midi

__all__ = ["InferenceConfig", "drum_wav_to_midi"]
