"""The checks that every piece passes before it is published, whichever engine made it.

`measure` gives figures, `faults_of` a sentence for each that is out of bounds. Key and tempo are measured against the
plan, but are no faults: engines that take words follow them loosely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.models.music.levels import as_columns, decibels, loudness_lufs, peaks
from serve_app.models.music.mastering import CEILING_DBFS, TARGET_LUFS
from serve_app.models.music.scales import MODES, PITCH_NAMES
from serve_app.models.music.spectra import (
    HOPS_PER_S,
    band_levels,
    novelty,
    octave_levels_db,
    onsets,
    pitch_classes,
    tempo_bpm,
)
from serve_app.results import MusicPlan

_TEXT_TO_MUSIC_S = 30.0  # MusicGen and Lyria make no more, whatever the plan's length

_TOLERANCE_S = 0.25
_SILENT = 10.0 ** (-50.0 / 20.0)
_FRAME_S = 0.05
_CLIPPED = 0.999
_OCTAVE_RANGE_DB = 30.0
_AUDIBLE_DB = 40.0  # below the loudest band of the piece: frames whose flatness counts
# Krumhansl and Kessler (1982): how well each pitch class fits a key, the tonic first
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
_MAJOR_MODES = ("lydian", "ionian", "mixolydian")


@dataclass(frozen=True, slots=True)
class _Check:
    measurement: str
    sentence: str  # with the value, times `factor`
    lowest: float = -np.inf
    highest: float = np.inf
    factor: float = 1.0


_CHECKS = (
    _Check("finite", "{:.1f} % of the samples are numbers; all must be", lowest=1.0, factor=100.0),
    _Check("peak_dbfs", "The peak is {:.1f} dBFS; at most -1 is allowed", highest=CEILING_DBFS + 0.05),
    _Check("dc_offset", "The mean of the samples is {:.3f} of full scale; at most 0.01 is allowed", highest=0.01),
    _Check("clipped_share", "{:.2f} % of the samples are clipped; at most 0.01 % may be", highest=1e-4, factor=100.0),
    _Check("silence_share", "{:.0f} % of the piece is silent; at most 20 % may be", highest=0.2, factor=100.0),
    _Check("longest_gap_s", "The piece is silent for {:.1f} s before its end; at most 2 s may be", highest=2.0),
    _Check(
        "loudness_lufs",
        "The loudness is {:.1f} LUFS; it must be within 1 of -14",
        lowest=TARGET_LUFS - 1.0,
        highest=TARGET_LUFS + 1.0,
    ),
    _Check("octave_bands", "The sound fills {:.0f} octaves; it must fill 3", lowest=3.0),
    _Check("onsets_per_s", "{:.1f} notes begin a second; it must be 0.3 to 12", lowest=0.3, highest=12.0),
    _Check("flatness", "The spectrum is {:.0f} % flat, as noise; it must be below 50 %", highest=0.5, factor=100.0),
)


def measure(audio: NDArray[np.float32], rate: int, plan: MusicPlan) -> dict[str, float]:
    """Return figures of (n, channels), all finite; samples that are not numbers count as silence.

    finite: share of samples that are numbers. duration_s. peak_dbfs: four times oversampled. dc_offset: of the worse
    channel. clipped_share. silence_share: of 50 ms frames below -50 dBFS. longest_gap_s: the longest silence that ends
    before the outro. loudness_lufs. octave_bands: octaves within 30 dB of the loudest. onsets_per_s. flatness: median
    of the audible frames. scale_share: of the pitch classes, in the plan's scale. key_correlation: with the profile of
    the plan's key, Krumhansl (1990). tempo_bpm. tempo_error: distance to the plan's tempo, in shares of it, where half
    and double tempo are no error.
    """
    columns = as_columns(audio)
    is_number = np.isfinite(columns)
    sound = columns if is_number.all() else np.where(is_number, columns, np.float32(0.0))
    if not len(sound):
        sound = np.zeros((1, 1), dtype=np.float32)
    mono = sound.mean(axis=1, dtype=np.float32)
    levels, flatness = band_levels(mono, rate)
    curve = novelty(levels)
    loudest = levels.max(axis=1)
    found_bpm = tempo_bpm(curve)
    duration_s = len(columns) / rate
    silence_share, gap_s = _silence(sound, rate, plan)
    return {
        "finite": float(is_number.mean()) if is_number.size else 0.0,
        "duration_s": duration_s,
        "peak_dbfs": decibels(float(peaks(sound).max())),
        "dc_offset": float(np.abs(sound.mean(axis=0, dtype=np.float64)).max()),
        "clipped_share": clipped_share(sound),
        "silence_share": silence_share,
        "longest_gap_s": gap_s,
        "loudness_lufs": loudness_lufs(sound, rate),
        "octave_bands": float((octave_levels_db(mono, rate) > -_OCTAVE_RANGE_DB).sum()),
        "onsets_per_s": len(onsets(curve)) / max(duration_s, 1.0 / HOPS_PER_S),
        "flatness": float(np.median(flatness[loudest > loudest.max() - _AUDIBLE_DB])) if mono.any() else 0.0,
        **_key_figures(pitch_classes(mono, rate), plan),
        "tempo_bpm": found_bpm,
        "tempo_error": _tempo_error(found_bpm, plan.tempo_bpm),
    }


def faults_of(measurements: dict[str, float], plan: MusicPlan) -> tuple[str, ...]:
    """Return a sentence for each check that fails; none: the piece may be published."""
    faults = []
    duration_s = measurements["duration_s"]
    shortest_s = min(plan.duration_s, _TEXT_TO_MUSIC_S) - _TOLERANCE_S
    if not shortest_s <= duration_s <= plan.duration_s + _TOLERANCE_S:
        faults.append(f"The piece lasts {duration_s:.1f} s instead of {plan.duration_s:.1f} s")
    for check in _CHECKS:
        value = measurements[check.measurement]
        if not check.lowest <= value <= check.highest:
            faults.append(check.sentence.format(value * check.factor))
    return tuple(faults)


def clipped_share(audio: NDArray[np.float32]) -> float:
    """Return the share of samples at full scale; mastering hides them, so the rendered sound is asked."""
    return float((np.abs(audio) >= _CLIPPED).mean()) if audio.size else 0.0


def _silence(sound: NDArray[np.float32], rate: int, plan: MusicPlan) -> tuple[float, float]:
    """Return the share of silent frames, and the longest run of them that ends before the outro, in seconds."""
    frame = max(1, round(_FRAME_S * rate))
    starts = np.arange(0, len(sound), frame)
    energy = np.add.reduceat(np.einsum("ij,ij->i", sound, sound), starts)
    is_silent = energy < _SILENT**2 * sound.shape[1] * np.diff([*starts, len(sound)])
    num_bars = sum(section.bars for section in plan.form)
    outro_bars = plan.form[-1].bars if len(plan.form) > 1 and plan.form[-1].name == "outro" else 0
    outro = len(is_silent) * (1.0 - outro_bars / max(num_bars, 1))
    longest = run = 0
    for index, silent in enumerate(is_silent):
        run = run + 1 if silent else 0
        if index < outro:
            longest = max(longest, run)
    return float(is_silent.mean()), longest * _FRAME_S


def _key_figures(classes: NDArray[np.float64], plan: MusicPlan) -> dict[str, float]:
    tonic = PITCH_NAMES.index(plan.key)
    profile = np.roll(_MAJOR if plan.mode in _MAJOR_MODES else _MINOR, tonic)
    has_pitch = classes.std() > 1e-9
    return {
        "scale_share": float(sum(classes[(tonic + step) % 12] for step in MODES[plan.mode])),
        "key_correlation": float(np.corrcoef(classes, profile)[0, 1]) if has_pitch else 0.0,
    }


def _tempo_error(found_bpm: float, planned_bpm: float) -> float:
    """Return 1 where no tempo was found."""
    return min(abs(found_bpm * factor / planned_bpm - 1.0) for factor in (0.5, 1.0, 2.0))
