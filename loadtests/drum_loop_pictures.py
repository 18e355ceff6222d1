"""Pictures of loops: what the network sees, its activations, the hits, and what is annotated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from loadtests.loop_scoring import LoopTruth, score_loop
from serve_app.models.drums.audio_file import read_recording
from serve_app.models.drums.bands import FRAMES_PER_S, band_centers_hz, log_bands
from serve_app.models.drums.transcription import TranscribedDrums
from serve_app.results import Drum

_COLORS = {Drum.KICK: "#0072B2", Drum.SNARE: "#D55E00", Drum.HIHAT: "#009E73"}
_LANE_HEIGHT = 0.8  # of 1
_SHOWN_HZ = (100, 500, 1000, 2000, 5000, 10_000)


def draw_loop(path: Path, loop: Path, heard: TranscribedDrums, truth: LoopTruth, window_s: float, title: str) -> None:
    """Write a PNG.

    Above, the spectrogram as the network gets it. Below, a lane for each drum: its activation; a stem where a hit is,
    as high as its confidence; and under it what is annotated, filled where it is certain, hollow where it is not. A
    red cross is a mistake.

    Args:
        path: of the picture.
        loop: the recording.
        heard: what was made of it.
        truth: what is annotated.
        window_s: how near a hit must be.
        title: above it.
    """
    recording = read_recording(loop)
    bands = log_bands(np.concatenate(list(recording.blocks)) * np.float32(recording.gain))
    figure = Figure(figsize=(max(9.0, 2.0 * recording.duration_s), 6.0), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.0, 1.5))
    _draw_bands(above, bands)
    _, mistakes = score_loop(truth, heard.transcript.hits, window_s)
    for lane, (drum, color) in enumerate(_COLORS.items()):
        column = heard.activations.labels.index(drum)
        values = np.asarray(heard.activations.probabilities[:, column], dtype=np.float32)
        times_s = np.arange(len(values)) / FRAMES_PER_S
        below.fill_between(times_s, lane, lane + _LANE_HEIGHT * values, color=color, alpha=0.3, linewidth=0)
        hits = [hit for hit in heard.transcript.hits if hit.drum == drum]
        tops = [lane + _LANE_HEIGHT * hit.confidence for hit in hits]
        below.vlines([hit.time_s for hit in hits], lane, tops, color=color, linewidth=1.2)
        for known_s, face in ((truth.certain_s[drum], color), (truth.uncertain_s[drum], "none")):
            below.scatter(known_s, [lane - 0.07] * len(known_s), s=26, marker="^", edgecolors=color, facecolors=face)
        wrong_s = [mistake.time_s for mistake in mistakes if mistake.drum == drum]
        below.scatter(wrong_s, [lane + 0.5] * len(wrong_s), marker="x", color="red", zorder=3)
    below.set_yticks([lane + _LANE_HEIGHT / 2 for lane in range(len(_COLORS))], list(_COLORS))
    below.set_ylim(-0.16, len(_COLORS))
    below.set_xlim(0.0, recording.duration_s)
    below.set_xlabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.draw()
    # a palette: a third of the bytes, and nobody sees it
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(255).save(path, optimize=True)


def _draw_bands(axes: Axes, bands: np.ndarray) -> None:
    num_frames, num_bands = bands.shape
    extent = (-0.5 / FRAMES_PER_S, (num_frames - 0.5) / FRAMES_PER_S, -0.5, num_bands - 0.5)
    axes.imshow(bands.T, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest")
    centers_hz = band_centers_hz()
    axes.set_yticks([int(np.abs(centers_hz - hz).argmin()) for hz in _SHOWN_HZ], [f"{hz}" for hz in _SHOWN_HZ])
    axes.set_ylabel("Hz")
