"""`detect_speech`: where somebody speaks, by silero's detector (MIT), which comes with faster-whisper.

The network runs in blocks that pass on its state: faster-whisper's own call copies the whole signal twice, 2 GB for 4
hours. Thresholds are silero's defaults unless a comment gives another.
"""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import get_vad_model

from serve_app.errors import ModelLoadingError
from serve_app.results import SAMPLE_RATE_HZ, SpeechRegion
from serve_app.sentences import Sentence

THRESHOLD = 0.5  # speech begins at this probability
END_THRESHOLD = 0.35  # and ends below this one
MIN_SPEECH_S = 0.1  # silero: 0.25; short answers ("네", "yes") take 0.15 s
MIN_SILENCE_S = 0.3  # silero: 0.1; only pauses between sentences are this long
PAD_S = 0.1  # silero: 0.03; keeps soft first and last consonants
# Longer speech is cut where its probability is lowest, mostly between two words. A recogniser's piece has 30 s with
# margins.
MAX_SPEECH_S = 28.0
_WINDOW = 512  # samples per probability, 32 ms: the network's input
_CONTEXT = 64  # samples of the window before, also input
_BLOCK_WINDOWS = 1024


def detect_speech(samples: np.ndarray) -> tuple[SpeechRegion, ...]:
    """Return the speech in (n,) samples at 16 kHz: regions in order, at most 28 s long. Uses one thread and 100 MB.

    Regions touch only where longer speech was cut. Raises ModelLoadingError where faster-whisper's detector is broken.
    """
    if not len(samples):
        return ()
    return _regions(speech_probabilities(samples), len(samples) / SAMPLE_RATE_HZ)


def speech_probabilities(samples: np.ndarray) -> np.ndarray:
    """Return (ceil(n / 512),) float32: the probability of speech in each 32 ms."""
    try:
        session = get_vad_model().session  # cached per process; made with one thread
    except Exception as error:
        raise ModelLoadingError(
            Sentence("Silero's voice activity detector can't be loaded: {reason}", reason=type(error).__name__)
        ) from error
    num_windows = -(-len(samples) // _WINDOW)
    probabilities = np.empty(num_windows, dtype=np.float32)
    hidden = cell = np.zeros((1, 1, 128), dtype=np.float32)
    inputs = np.zeros((_BLOCK_WINDOWS, _CONTEXT + _WINDOW), dtype=np.float32)
    for start in range(0, num_windows, _BLOCK_WINDOWS):
        stop = min(start + _BLOCK_WINDOWS, num_windows)
        block = samples[start * _WINDOW : stop * _WINDOW]
        if len(block) % _WINDOW:
            block = np.pad(block, (0, -len(block) % _WINDOW))
        rows = inputs[: stop - start]
        rows[0, :_CONTEXT] = samples[start * _WINDOW - _CONTEXT : start * _WINDOW] if start else 0.0
        rows[:, _CONTEXT:] = block.reshape(-1, _WINDOW)
        rows[1:, :_CONTEXT] = rows[:-1, -_CONTEXT:]
        output, hidden, cell = session.run(None, {"input": rows, "h": hidden, "c": cell})
        probabilities[start:stop] = np.asarray(output).reshape(-1)
    return probabilities


def _regions(probabilities: np.ndarray, duration_s: float) -> tuple[SpeechRegion, ...]:
    """Return speech between the two thresholds; then drop short silences, then short speech, then pad."""
    # last decisive window at or before each one: +1 speech, -1 silence, 0 in between changes nothing
    decisive = np.where(probabilities >= THRESHOLD, 1, np.where(probabilities < END_THRESHOLD, -1, 0))
    latest = np.maximum.accumulate(np.where(decisive != 0, np.arange(len(decisive)), -1))
    speaking = (latest >= 0) & (decisive[np.maximum(latest, 0)] == 1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], speaking.astype(np.int8), [0]))))
    starts_s, ends_s = (edges.reshape(-1, 2).T * (_WINDOW / SAMPLE_RATE_HZ)).astype(np.float64)
    if not len(starts_s):
        return ()
    long_pause = starts_s[1:] - ends_s[:-1] >= MIN_SILENCE_S
    starts_s = starts_s[np.concatenate(([True], long_pause))]
    ends_s = ends_s[np.concatenate((long_pause, [True]))]
    long_speech = ends_s - starts_s >= MIN_SPEECH_S
    starts_s, ends_s = starts_s[long_speech], ends_s[long_speech]
    # pauses are at least 0.3 s, so 0.1 s on each side never makes two regions meet
    starts_s, ends_s = np.maximum(starts_s - PAD_S, 0.0), np.minimum(ends_s + PAD_S, duration_s)
    return tuple(
        part
        for start_s, end_s in zip(starts_s.tolist(), ends_s.tolist(), strict=True)
        for part in _cut(SpeechRegion(start_s, end_s), probabilities)
    )


def _cut(region: SpeechRegion, probabilities: np.ndarray) -> list[SpeechRegion]:
    """Return the region in parts of at most 28 s, each cut between 14 and 28 s."""
    parts = []
    while region.end_s - region.start_s > MAX_SPEECH_S:
        first, last = (
            round((region.start_s + share * MAX_SPEECH_S) * SAMPLE_RATE_HZ / _WINDOW) for share in (0.5, 1.0)
        )
        # one low window may lie inside a consonant: three in a row
        smooth = np.convolve(probabilities[first - 1 : last + 1], np.ones(3) / 3, mode="valid")
        cut_s = (first + int(smooth.argmin()) + 0.5) * _WINDOW / SAMPLE_RATE_HZ
        parts.append(SpeechRegion(region.start_s, cut_s))
        region = SpeechRegion(cut_s, region.end_s)
    return [*parts, region]
