"""Each check on sound that fails it and no other, and music that passes all; librosa as the independent reference."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from serve_app.models.music.encoding import to_flac
from serve_app.models.music.finishing import finish
from serve_app.models.music.gate import faults_of, measure
from serve_app.models.music.mastering import master
from serve_app.models.music.spectra import band_levels, novelty, onsets, pitch_classes, tempo_bpm
from serve_app.results import FormSection

from .sounds import PLAN, melody, planned

RATE = 44_100


def mastered(seconds: float = 10.0, **music: float) -> np.ndarray:
    return master(melody(seconds, **music), RATE, seconds)


def faults(audio: np.ndarray) -> tuple[str, ...]:
    return faults_of(measure(audio, RATE, PLAN), PLAN)


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
def test_music_has_no_faults(rate: int) -> None:
    measurements = measure(master(melody(10.0, rate), rate, 10.0), rate, PLAN)
    assert faults_of(measurements, PLAN) == ()
    assert measurements["onsets_per_s"] == pytest.approx(100 / 60, abs=0.2)
    assert measurements["tempo_error"] < 0.02
    assert measurements["scale_share"] > 0.9
    assert measurements["key_correlation"] > 0.7


def with_pauses(audio: np.ndarray) -> np.ndarray:
    """A quarter of each second is silent."""
    return audio * ((np.arange(len(audio)) / RATE % 1.0) < 0.75)[:, None].astype(np.float32)


def low_passed(audio: np.ndarray) -> np.ndarray:
    """Only one octave, with the beats."""
    times = np.arange(len(audio)) / RATE
    tone = np.sin(2 * np.pi * 500.0 * times) * np.exp(-4.0 * (times % 0.6)) * np.minimum(1.0, (times % 0.6) / 0.02)
    return np.repeat(tone[:, None], 2, axis=1).astype(np.float32)


def chord(audio: np.ndarray) -> np.ndarray:
    """One sound without a beginning."""
    times = np.arange(len(audio))[:, None] / RATE
    tone = sum(np.sin(2 * np.pi * hertz * times + hertz) for hertz in (110, 220, 330, 440, 880, 1760, 2640))
    return (0.1 * np.repeat(tone, 2, axis=1)).astype(np.float32)


def noise(audio: np.ndarray) -> np.ndarray:
    """White noise with a beat."""
    times = np.arange(len(audio))[:, None] / RATE
    rng = np.random.default_rng(0)
    return (rng.normal(0.0, 1.0, audio.shape) * (0.2 + np.exp(-8.0 * (times % 0.6)))).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "sentence", "is_mastered"),
    [
        (lambda audio: audio[: 9 * RATE], "lasts 9.0 s instead of 10.0 s", False),
        (lambda audio: np.concatenate((audio, audio[:RATE])), "lasts 11.0 s", False),
        (lambda audio: np.where(np.arange(len(audio))[:, None] == 5000, np.nan, audio), "are numbers", False),
        (lambda audio: np.where(np.arange(len(audio))[:, None] == 5000, 0.95, audio), "The peak is", False),
        (lambda audio: audio + np.float32(0.02), "The mean of the samples", False),
        (with_pauses, "% of the piece is silent", True),
        (lambda audio: 0.7 * audio, r"The loudness is -17", False),
        (low_passed, "fills 1 octaves", True),
        (chord, "0.[0-2] notes begin a second", True),
        (noise, "% flat, as noise", True),
    ],
)
def test_each_fault_is_found_alone(
    change: Callable[[np.ndarray], np.ndarray], sentence: str, is_mastered: bool
) -> None:
    changed = change(mastered()).astype(np.float32)
    [fault] = faults(master(changed, RATE, 10.0) if is_mastered else changed)
    assert re.search(sentence, fault)


def test_silence_in_the_outro_is_no_gap() -> None:
    audio = mastered()
    audio[round(7.6 * RATE) :] = 0.0
    assert not any("before its end" in fault for fault in faults(audio))
    without = planned(form=(FormSection("A", 9),))
    assert any("2.4 s before its end" in fault for fault in faults_of(measure(audio, RATE, without), without))


def test_a_gap_is_a_fault() -> None:
    audio, plan = mastered(12.0), planned(duration_s=12.0)
    audio[3 * RATE : round(5.2 * RATE)] = 0.0
    assert faults_of(measure(audio, RATE, plan), plan) == (
        "The piece is silent for 2.2 s before its end; at most 2 s may be",
    )


def test_clipping_of_the_engine_is_seen_after_mastering() -> None:
    loud = np.clip(10.0 * melody(), -1.0, 1.0)
    found = finish(to_flac(loud, RATE), PLAN)
    assert any("clipped" in fault for fault in found.faults)
    assert found.measurements["clipped_share"] > 0.01
    assert not any("clipped" in fault for fault in finish(to_flac(melody(), RATE), PLAN).faults)


def test_an_engine_of_words_may_end_at_thirty_seconds() -> None:
    plan = planned(duration_s=60.0)
    measurements = measure(mastered(10.0), RATE, plan)
    assert faults_of({**measurements, "duration_s": 30.0}, plan) == ()
    assert "lasts 29.0 s instead of 60.0 s" in faults_of({**measurements, "duration_s": 29.0}, plan)[0]


@pytest.mark.parametrize("audio", [np.zeros((0, 2)), np.zeros((3, 2)), np.full((RATE, 2), np.nan), np.zeros((RATE, 1))])
def test_what_is_no_music_has_finite_measurements_and_faults(audio: np.ndarray) -> None:
    measurements = measure(audio.astype(np.float32), RATE, PLAN)
    assert all(math.isfinite(value) and type(value) is float for value in measurements.values())
    assert len(faults_of(measurements, PLAN)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize(("tonic", "mode", "name"), [(60, "ionian", "C"), (66, "ionian", "F#"), (69, "aeolian", "A")])
def test_the_key_of_the_plan_fits_better_than_all_distant_ones(tonic: int, mode: str, name: str) -> None:
    audio = mastered(tonic=tonic, mode=mode)
    right = measure(audio, RATE, planned(key=name, mode=mode))
    assert right["scale_share"] > 0.9
    for distance in (1, 3, 6, 8):
        other = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")[(tonic + distance) % 12]
        wrong = measure(audio, RATE, planned(key=other, mode=mode))
        assert wrong["scale_share"] < right["scale_share"] - 0.2
        assert wrong["key_correlation"] < right["key_correlation"] - 0.2


@pytest.mark.parametrize("bpm", [52, 76, 100, 138, 176])
def test_half_and_double_tempo_are_no_error_and_others_are(bpm: int) -> None:
    audio = mastered(bpm=bpm)
    assert measure(audio, RATE, planned(tempo_bpm=bpm))["tempo_error"] < 0.02
    assert measure(audio, RATE, planned(tempo_bpm=round(bpm * 1.2)))["tempo_error"] > 0.1


def test_notes_are_counted_where_they_begin() -> None:
    levels, _ = band_levels(melody(10.0, bpm=75.0), RATE)
    times = onsets(novelty(levels)) / 100.0
    expected = np.arange(1, 12) * 0.8  # the first one begins with the file
    assert np.abs(times[-11:] - expected).max() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("bpm", "tonic"), [(66.0, 60), (92.0, 62), (118.0, 67), (150.0, 70)])
def test_librosa_finds_the_same_onsets_tempo_and_pitch_classes(bpm: float, tonic: int) -> None:
    import librosa

    sound = melody(20.0, bpm=bpm, tonic=tonic)
    curve = novelty(band_levels(sound, RATE)[0])
    their_onsets = librosa.onset.onset_detect(y=sound, sr=RATE, hop_length=441)
    assert len(onsets(curve)) == pytest.approx(len(their_onsets), rel=0.1, abs=2)
    their_bpm = float(np.atleast_1d(librosa.beat.beat_track(y=sound, sr=RATE, hop_length=128)[0])[0])
    ratio = tempo_bpm(curve) / their_bpm
    assert min(abs(ratio * factor - 1.0) for factor in (0.5, 1.0, 2.0)) < 0.05
    theirs = librosa.feature.chroma_cqt(y=sound, sr=RATE).mean(axis=1)
    assert np.corrcoef(pitch_classes(sound, RATE), theirs)[0, 1] > 0.8
