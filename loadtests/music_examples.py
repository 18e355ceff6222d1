"""The two pieces of docs/music.md: pictures drawn here, their music, and what librosa hears in it.

    python -m loadtests.music_examples docs/examples

Writes NAME.jpg, NAME.mp3 and NAME.png (spectrogram) for each, and prints a table of plan and analysis. librosa decodes
the MP3 and knows nothing of the plan. Loudness is pyloudnorm's of the decoded MP3. Of the key, librosa's constant-Q
chroma of the harmonic part is compared with the profiles of Krumhansl and Kessler (1982).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pyloudnorm
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from serve_app.commands.music.routes import LocalRoute, Order
from serve_app.messages import Locale
from serve_app.models.music.plan_rules import BEATS_PER_BAR
from serve_app.settings import Settings

DURATION_S, SEED = 20.0, 1
_SIZE = (480, 320)
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
_HOP = 256  # tempo in finer steps than librosa's default of 512


def draw_field(path: Path) -> None:
    """Draw a bright yellow field under a light sky, with poppies."""
    rng = np.random.default_rng(0)
    picture = Image.new("RGB", _SIZE, (150, 205, 245))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 110, *_SIZE), fill=(250, 205, 30))
    pen.ellipse((350, 20, 410, 80), fill=(255, 240, 150))
    for x, y in zip(rng.integers(0, _SIZE[0], 260), rng.integers(115, _SIZE[1], 260), strict=True):
        size, red = 2 + (y - 110) // 40, rng.random() < 0.2
        pen.ellipse((x, y, x + size, y + size), fill=(225, 60, 30) if red else (255, 235, 90))
    picture.save(path, quality=85)


def draw_night(path: Path) -> None:
    """Draw a dark blue night over a hill, with a small moon."""
    picture = Image.new("RGB", _SIZE, (12, 18, 52))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((350, 50, 390, 90), fill=(150, 160, 190))
    pen.polygon([(0, 320), (0, 250), (160, 215), (330, 255), (480, 225), (480, 320)], fill=(5, 7, 20))
    picture.filter(ImageFilter.GaussianBlur(3)).save(path, quality=85)


PICTURES = {"field": draw_field, "night": draw_night}


def analyse(mp3: Path, plan: dict[str, Any]) -> dict[str, str]:
    """Return what is heard; the plan is asked for the places of its sections alone."""
    sound, rate = librosa.load(mp3, sr=None, mono=False)
    mono = librosa.to_mono(sound)
    envelope = librosa.onset.onset_strength(y=mono, sr=rate, hop_length=_HOP)
    [tempo] = np.atleast_1d(librosa.feature.tempo(onset_envelope=envelope, sr=rate, hop_length=_HOP))
    onsets = librosa.onset.onset_detect(onset_envelope=envelope, sr=rate, hop_length=_HOP)
    chroma = librosa.feature.chroma_cqt(y=librosa.effects.harmonic(mono), sr=rate)
    keys = _keys(chroma.mean(axis=1))
    likeness = section_likeness(chroma, len(mono) / rate, plan)
    return {
        "tempo": f"{tempo:.1f} bpm",
        "key": f"{keys[0][1]} ({keys[0][0]:.2f}), then {keys[1][1]} ({keys[1][0]:.2f})",
        "loudness": f"{pyloudnorm.Meter(rate).integrated_loudness(sound.T):.1f} LUFS",
        "note onsets": f"{len(onsets) / (len(mono) / rate):.1f} a second",
        "spectral centroid": f"{librosa.feature.spectral_centroid(y=mono, sr=rate).mean():.0f} Hz",
        "chroma likeness of sections": ", ".join(f"{pair} {value:.2f}" for pair, value in likeness.items())
        or "one section",
    }


def _keys(chroma: NDArray[np.float64]) -> list[tuple[float, str]]:
    """Return all keys with their correlation, the best first."""
    return sorted(
        (
            (float(np.corrcoef(chroma, np.roll(profile, tonic))[0, 1]), f"{name} {mode}")
            for mode, profile in _PROFILES.items()
            for tonic, name in enumerate(_NAMES)
        ),
        reverse=True,
    )


def section_starts_s(plan: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the planned sections and their starts in seconds."""
    bar_s = 60.0 / plan["tempo_bpm"] * BEATS_PER_BAR[plan["metre"]]
    starts = np.cumsum([0] + [section["bars"] for section in plan["form"]])
    return [(section["name"], float(start * bar_s)) for section, start in zip(plan["form"], starts, strict=False)]


def section_likeness(chroma: NDArray[np.float64], duration_s: float, plan: dict[str, Any]) -> dict[str, float]:
    """Return the cosine similarity of the first section A with each later one, bin by bin of their chroma in time."""
    sections = section_starts_s(plan)
    ends_s = [start_s for _, start_s in sections[1:]] + [duration_s]
    frames_per_s = chroma.shape[1] / duration_s
    parts = [
        (name, chroma[:, int(start_s * frames_per_s) : int(end_s * frames_per_s)])
        for (name, start_s), end_s in zip(sections, ends_s, strict=True)
        if name not in ("intro", "outro")
    ]
    first_name, first = parts[0]
    likeness = {}
    for name, part in parts[1:]:
        length = min(first.shape[1], part.shape[1])
        one, other = first[:, :length].ravel(), part[:, :length].ravel()
        likeness[f"{first_name}–{name}"] = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    return likeness


def draw_spectrogram(mp3: Path, plan: dict[str, Any], path: Path) -> None:
    """Write a PNG: power by time and frequency, with the planned sections."""
    mono, rate = librosa.load(mp3, sr=None, mono=True)
    levels_db = librosa.power_to_db(librosa.feature.melspectrogram(y=mono, sr=rate, n_mels=160), ref=np.max)
    figure = Figure(figsize=(8.0, 3.2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    duration_s = len(mono) / rate
    shown = axes.imshow(
        levels_db, origin="lower", aspect="auto", extent=(0, duration_s, 0, 160), cmap="magma", vmin=-80
    )
    centers_hz = librosa.mel_frequencies(n_mels=160, fmax=rate / 2)
    shown_hz = (100, 500, 1000, 2000, 5000, 10_000)
    axes.set_yticks([int(np.abs(centers_hz - hz).argmin()) for hz in shown_hz], [f"{hz}" for hz in shown_hz])
    axes.set_ylabel("Hz")
    axes.set_xlabel("seconds")
    for name, start_s in section_starts_s(plan):
        axes.axvline(start_s, color="white", linewidth=0.8, linestyle=":")
        axes.text(start_s + 0.05, 150, name, color="white", va="center")
    figure.colorbar(shown, ax=axes, label="dB")
    canvas.draw()
    # a palette: a third of the bytes, and nobody sees it
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    """Write the files and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    route = LocalRoute(Order(DURATION_S, "", SEED, Locale.EN), Settings.from_environment())
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as made:
        for name, draw in PICTURES.items():
            draw(folder / f"{name}.jpg")
            piece = route.make(folder / f"{name}.jpg", Path(made), lambda share: None)
            mp3 = folder / f"{name}.mp3"
            mp3.write_bytes((Path(made) / mp3.name).read_bytes())
            plan = json.loads(json.dumps(piece.facts["plan"]))
            draw_spectrogram(mp3, plan, folder / f"{name}.png")
            told = {
                "caption": piece.caption(Locale.EN),
                "plan": piece.summary(Locale.EN),
                "form": " ".join(f"{section['name']} {section['bars']}" for section in plan["form"]) + " bars",
                "valence, arousal": f"{plan['valence']:.2f}, {plan['arousal']:.2f}",
            }
            for what, value in (told | analyse(mp3, plan)).items():
                rows.setdefault(what, []).append(value)
    sys.stdout.write(f"| | {' | '.join(PICTURES)} |\n| --- | {' | '.join('---' for _ in PICTURES)} |\n")
    for what, values in rows.items():
        sys.stdout.write(f"| {what} | {' | '.join(values)} |\n")


if __name__ == "__main__":
    main()
