"""Acoustic features and decoding: seconds for ten minutes of audio, and pitch accuracy, beside what others need.

    OMP_NUM_THREADS=1 python loadtests/audio_features.py [--skip-pyin]

Synthetic voices have a known pitch: harmonics of a contour through three formants, then clean, in white noise at
10 dB, or cut to the telephone band. A gross error is a frame whose pitch is off by more than 20 %. On real speech there
is no truth; what is reported is agreement with librosa.pyin where both call a frame voiced. CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import faster_whisper
import librosa
import numpy as np
import scipy.signal
import torch
import torchaudio

from serve_app.media.acoustics import HOP_S, MAX_PITCH_HZ, MIN_PITCH_HZ, features_of, measure_frames
from serve_app.media.decode import decode_audio
from serve_app.models.speech.voice_activity import detect_speech

RATE_HZ = 16_000
HOP = int(HOP_S * RATE_HZ)
SPEECH = Path(__file__).parents[1] / "../shared/data/speech"
VIDEO = Path(__file__).parents[1] / "../shared/data/video/example.mp4"
TEN_MINUTES = 600 * RATE_HZ


def contours(seconds: float = 4.0) -> dict[str, np.ndarray]:
    """Return pitch in Hz per sample."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    u = t / seconds
    return {
        "low level 75": np.full_like(t, 75.0),
        "male glide 80-220": 80.0 * (220 / 80) ** u,
        "male fall 160-85": 160.0 * (85 / 160) ** u,
        "male vibrato 120": 120.0 * (1 + 0.06 * np.sin(2 * np.pi * 5.5 * t)),
        "female glide 150-350": 150.0 * (350 / 150) ** u,
        "female vibrato 220": 220.0 * (1 + 0.06 * np.sin(2 * np.pi * 6 * t)),
        "female swings 180-330": 255 + 75 * np.sin(2 * np.pi * 1.5 * t),
        "child 280-450": 280.0 * (450 / 280) ** u,
    }


def voice(pitch_hz: np.ndarray, seed: int) -> np.ndarray:
    """Return harmonics at -12 dB per octave through three formants of one of five vowels, with a slow swell."""
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    signal = np.zeros_like(pitch_hz)
    for harmonic in range(1, 60):
        hz = harmonic * pitch_hz
        gain = np.zeros_like(hz)
        for formant, width, weight in zip(vowels[seed % 5], (80, 100, 140), (1.0, 0.6, 0.3), strict=True):
            gain += weight / np.sqrt(1 + ((hz - formant) / width) ** 2)
        signal += np.where(hz < 7_500, gain / harmonic, 0.0) * np.sin(harmonic * phase)
    signal *= 0.6 + 0.4 * np.sin(2 * np.pi * 2.0 * np.arange(len(signal)) / RATE_HZ)
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)


def conditions(signal: np.ndarray) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(1).normal(0, 1, len(signal))
    noise *= np.sqrt(np.mean(signal**2) / np.mean(noise**2))
    band = scipy.signal.butter(6, (300, 3_400), "bandpass", fs=RATE_HZ, output="sos")
    telephone = scipy.signal.sosfilt(band, signal)
    room = np.random.default_rng(2).normal(0, 1, 4800) * np.exp(-np.arange(4800) / 1100)
    room[0] = 12.0
    return {
        "clean": signal,
        "noise 10 dB": (signal + noise * 10**-0.5).astype(np.float32),
        "telephone": telephone.astype(np.float32),
        "telephone, noise 20 dB": (telephone + 0.1 * noise * np.std(telephone) / np.std(signal)).astype(np.float32),
        "room": (scipy.signal.fftconvolve(signal, room)[: len(signal)] / 15).astype(np.float32),
    }


def ours(samples: np.ndarray) -> np.ndarray:
    return measure_frames(samples).pitch_hz


def pyin(samples: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pitch, voiced, _ = librosa.pyin(
            samples, fmin=MIN_PITCH_HZ, fmax=MAX_PITCH_HZ, sr=RATE_HZ, frame_length=1024, hop_length=HOP
        )
    return np.where(voiced, pitch, np.nan)


def torchaudio_pitch(samples: np.ndarray) -> np.ndarray:
    """Return torchaudio's pitch; it has no voicing decision."""
    return torchaudio.functional.detect_pitch_frequency(
        torch.from_numpy(samples), RATE_HZ, frame_time=HOP_S, freq_low=int(MIN_PITCH_HZ), freq_high=int(MAX_PITCH_HZ)
    ).numpy()


def accuracy(track: Callable[[np.ndarray], np.ndarray]) -> dict[str, tuple[float, float, float]]:
    """Return per condition: gross errors %, frames called unvoiced %, median deviation in cents."""
    results: dict[str, list[tuple[float, float, float]]] = {}
    for seed, contour in enumerate(contours().values()):
        for name, samples in conditions(voice(contour, seed)).items():
            found = track(samples)
            truth = contour[::HOP][: len(found)]
            found = found[: len(truth)]
            inner = slice(10, -10)
            found, truth = found[inner], truth[inner]
            heard = np.isfinite(found)
            ratio = found[heard] / truth[heard]
            gross = 100 * float(np.mean(np.abs(ratio - 1) > 0.2)) if heard.any() else 0.0
            cents = float(np.median(np.abs(1200 * np.log2(ratio)))) if heard.any() else np.nan
            results.setdefault(name, []).append((gross, 100 * float(1 - heard.mean()), cents))
    return {name: tuple(np.mean(rows, axis=0)) for name, rows in results.items()}  # type: ignore[misc]


def false_voicing() -> float:
    """Return the share of white-noise frames that are called voiced, in %."""
    noise = np.random.default_rng(3).normal(0, 0.1, 60 * RATE_HZ).astype(np.float32)
    return 100 * float(np.isfinite(ours(noise)).mean())


def cpu_s(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the least CPU seconds of several runs, after one to warm up where there are several."""
    if repeats > 1:
        work()
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def read_speech() -> dict[str, np.ndarray]:
    return {path.stem: decode_audio(str(path)).samples for path in sorted(SPEECH.glob("*.flac"))}


def real_speech(clips: dict[str, np.ndarray]) -> None:
    agree, gross, only_ours, only_theirs, frames = 0, 0, 0, 0, 0
    for samples in clips.values():
        mine, theirs = ours(samples), pyin(samples)
        size = min(len(mine), len(theirs))
        mine, theirs = mine[:size], theirs[:size]
        both = np.isfinite(mine) & np.isfinite(theirs)
        off = np.abs(mine[both] / theirs[both] - 1) > 0.2
        agree, gross, frames = agree + int(both.sum()), gross + int(off.sum()), frames + size
        only_ours += int((np.isfinite(mine) & ~np.isfinite(theirs)).sum())
        only_theirs += int((~np.isfinite(mine) & np.isfinite(theirs)).sum())
    print(f"\nreal speech, {len(clips)} clips, {frames} frames, against librosa.pyin:")
    print(f"  both voiced {100 * agree / frames:.1f} %, of these apart by > 20 %: {100 * gross / agree:.2f} %")
    print(f"  voiced only here {100 * only_ours / frames:.1f} %, only by pyin {100 * only_theirs / frames:.1f} %")


def volume_and_centroid(samples: np.ndarray) -> None:
    """Compare per-word values with librosa's over the same spans."""
    starts = np.arange(0.0, len(samples) / RATE_HZ - 0.5, 0.31)
    ends = starts + 0.3
    mine = features_of(measure_frames(samples), starts, ends)
    exact = [
        20 * np.log10(max(1e-5, np.sqrt(np.mean(samples[round(s * RATE_HZ) : round(e * RATE_HZ)].astype(float) ** 2))))
        for s, e in zip(starts, ends, strict=True)
    ]
    power = np.abs(librosa.stft(samples, n_fft=1024, win_length=736, hop_length=HOP)) ** 2
    hz = librosa.fft_frequencies(sr=RATE_HZ, n_fft=1024)
    centroids = []
    for begin, end in zip(starts, ends, strict=True):
        part = power[:, round(begin / HOP_S) : round(end / HOP_S)].sum(axis=1)
        centroids.append(float(hz @ part / part.sum()))
    volume_off = np.abs(np.array([each.volume_db for each in mine]) - exact).max()
    ratio = np.array([each.spectral_centroid_hz or np.nan for each in mine]) / np.array(centroids)
    off = 100 * np.abs(ratio - 1)
    print(f"volume against numpy: at most {volume_off:.4f} dB off")
    print(
        f"centroid against librosa's power spectrum: median {np.nanmedian(off):.2f} % off, "
        f"95 % of words within {np.nanpercentile(off, 95):.2f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-pyin", action="store_true", help="leave out librosa.pyin (about a minute)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = read_speech() if SPEECH.is_dir() else {"synthetic": voice(contours(60.0)["male vibrato 120"], 0)}
    joined = np.concatenate(list(clips.values()))
    ten_minutes = np.tile(joined, -(-TEN_MINUTES // len(joined)))[:TEN_MINUTES]
    frames = measure_frames(ten_minutes)
    words = np.sort(np.random.default_rng(0).uniform(0, 599, 1_700))
    minute = ten_minutes[: 60 * RATE_HZ]

    print("CPU seconds for 10 minutes")
    rows: list[tuple[str, float]] = [
        ("serve_app: volume, pitch, centroid together", cpu_s(lambda: measure_frames(ten_minutes))),
        ("serve_app: read off 1 700 words", cpu_s(lambda: features_of(frames, words, words + 0.3))),
        ("librosa.feature.rms", cpu_s(lambda: librosa.feature.rms(y=ten_minutes, hop_length=HOP))),
        (
            "librosa.feature.spectral_centroid",
            cpu_s(lambda: librosa.feature.spectral_centroid(y=ten_minutes, sr=RATE_HZ, n_fft=1024, hop_length=HOP)),
        ),
        ("torchaudio.detect_pitch_frequency", cpu_s(lambda: torchaudio_pitch(ten_minutes), 1)),
    ]
    if not options.skip_pyin:
        pyin(minute[:RATE_HZ])
        rows.append(("librosa.pyin (one minute × 10)", 10 * cpu_s(lambda: pyin(minute), 1)))
    if VIDEO.exists():
        scale = 600 / decode_audio(str(VIDEO)).duration_s
        rows.append(("serve_app: decode mp4 (42 s, scaled)", cpu_s(lambda: decode_audio(str(VIDEO))) * scale))
        rows.append(("faster_whisper: decode the same", cpu_s(lambda: faster_whisper.decode_audio(str(VIDEO))) * scale))
    rows.append(("serve_app: voice activity (one minute × 10)", 10 * cpu_s(lambda: detect_speech(minute))))
    for name, value in rows:
        print(f"  {name:48s} {value:8.3f}")

    four_hours = np.sort(np.random.default_rng(0).uniform(0, 599, 40_000))
    print(
        f"  serve_app: read off 40 000 words {cpu_s(lambda: features_of(frames, four_hours, four_hours + 0.3)):24.3f}"
    )

    trackers = {"serve_app": ours, "torchaudio": torchaudio_pitch}
    if not options.skip_pyin:
        trackers["librosa.pyin"] = pyin
    print("\nsynthetic voices: gross errors % / called unvoiced % / median deviation in cents")
    for name, track in trackers.items():
        for condition, (gross, missed, cents) in accuracy(track).items():
            print(f"  {name:14s} {condition:24s} {gross:6.2f} / {missed:5.1f} / {cents:5.1f}")
    print(f"  serve_app calls {false_voicing():.1f} % of white noise voiced")
    volume_and_centroid(joined)
    if not options.skip_pyin:
        real_speech(clips)


if __name__ == "__main__":
    main()
