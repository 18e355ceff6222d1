"""`draw_drums`: a picture of activations, hits and beats."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from serve_app.results import Drum, DrumTranscript

if TYPE_CHECKING:
    from serve_app.models.drums.activations import DrumActivations

ROW_S = 10.0
MAX_ROWS = 12  # two minutes: a viewer must still open the picture
_SHORTEST_ROW_S = 1.0
_DOTS_PER_INCH = 100
_WIDTH_IN, _LEFT_IN, _RIGHT_IN = 16.0, 0.6, 0.2
_HEAD_IN, _ROW_IN, _GAP_IN, _FOOT_IN = 0.4, 1.9, 0.3, 0.3
# From below, as on a drummer's staff; colours for the colour-blind, too (Okabe and Ito).
_LANES = {Drum.KICK: "#0072B2", Drum.SNARE: "#D55E00", Drum.HIHAT: "#009E73"}
_LANE_HEIGHT = 0.86  # of 1


def draw_drums(
    transcript: DrumTranscript, activations: DrumActivations, thresholds: Mapping[str, float] | None = None
) -> bytes:
    """Return a PNG: for each drum a lane with its activation, hits as stems, and its threshold; beats are lines.

    A stem stands at the played time, as high as the velocity; the triangle below it stands at the quantised time. At
    most the first two minutes are drawn, in rows of ten seconds. Needs no display, and runs in any thread.
    """
    shown_s = min(transcript.duration_s, ROW_S * MAX_ROWS)
    num_rows = max(1, math.ceil(shown_s / ROW_S))
    row_s = ROW_S if num_rows > 1 else max(shown_s, _SHORTEST_ROW_S)
    # not pyplot: it keeps every figure in a global, and belongs to the main thread
    height_in = _HEAD_IN + _ROW_IN * num_rows + _FOOT_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(_title(transcript, shown_s), fontsize=11, y=1 - 0.5 * _HEAD_IN / height_in, va="center")
    beats_s = beats_until(transcript, shown_s)
    left, width = _LEFT_IN / _WIDTH_IN, 1 - (_LEFT_IN + _RIGHT_IN) / _WIDTH_IN
    for number in range(num_rows):
        bottom_in = height_in - _HEAD_IN - _ROW_IN * (number + 1) + _GAP_IN
        axes = figure.add_axes((left, bottom_in / height_in, width, (_ROW_IN - _GAP_IN) / height_in))
        start_s, end_s = number * row_s, (number + 1) * row_s
        _prepare(axes, start_s, end_s)
        inside_s = beats_s[(beats_s >= start_s) & (beats_s < end_s)]
        axes.vlines(inside_s, 0, len(_LANES), color="#999999", linewidth=0.7, zorder=0)
        for lane, (drum, color) in enumerate(_LANES.items()):
            _draw_activation(axes, activations, drum, lane, color, start_s, end_s)
            if thresholds is not None:
                level = lane + _LANE_HEIGHT * thresholds[drum]
                axes.hlines(level, start_s, end_s, color=color, linewidth=0.6, linestyle=":")
            _draw_hits(axes, transcript, drum, lane, color, start_s, end_s)
    axes.set_xlabel("seconds")
    written = io.BytesIO()
    canvas.print_png(written)
    return written.getvalue()


def beats_until(transcript: DrumTranscript, end_s: float) -> np.ndarray:
    """Return the times of the tempo map's beats up to `end_s`, (n,)."""
    changes = transcript.tempo_map
    ends_s = [change.start_s for change in changes[1:]] + [math.inf]
    beats: list[np.ndarray] = []
    for change, until_s in zip(changes, ends_s, strict=True):
        beat_s = 60.0 / change.bpm
        # not within half a beat of the next change, which has its own beat
        count = math.ceil((min(end_s, until_s - beat_s / 2) - change.start_s) / beat_s)
        beats.append(change.start_s + beat_s * np.arange(max(0, count)))
    return np.concatenate(beats)


def _title(transcript: DrumTranscript, shown_s: float) -> str:
    counts = ", ".join(f"{sum(hit.drum == drum for hit in transcript.hits)} {drum}" for drum in Drum)
    tempi = [change.bpm for change in transcript.tempo_map]
    tempo = f"{transcript.bpm:.1f} BPM" + (f" ({min(tempi):.1f} to {max(tempi):.1f})" if len(tempi) > 1 else "")
    part = f"; the first {shown_s:.0f} s" if shown_s < transcript.duration_s else ""
    return f"{transcript.duration_s:.1f} s, {tempo}: {counts}{part}"


def _prepare(axes: Axes, start_s: float, end_s: float) -> None:
    axes.set_xlim(start_s, end_s)
    axes.set_ylim(-0.05, len(_LANES) + 0.02)
    axes.set_yticks([lane + _LANE_HEIGHT / 2 for lane in range(len(_LANES))], list(_LANES))
    axes.tick_params(axis="y", length=0)
    axes.margins(0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.hlines(range(len(_LANES)), start_s, end_s, color="#dddddd", linewidth=0.7, zorder=0)


def _draw_activation(
    axes: Axes, activations: DrumActivations, drum: Drum, lane: int, color: str, start_s: float, end_s: float
) -> None:
    rate = activations.frames_per_s
    first, last = round(start_s * rate), round(end_s * rate) + 1
    column = activations.labels.index(drum)
    values = np.asarray(activations.probabilities[first:last, column], dtype=np.float32)
    times_s = (first + np.arange(len(values))) / rate
    axes.fill_between(times_s, lane, lane + _LANE_HEIGHT * values, color=color, alpha=0.35, linewidth=0)


def _draw_hits(
    axes: Axes, transcript: DrumTranscript, drum: Drum, lane: int, color: str, start_s: float, end_s: float
) -> None:
    hits = [hit for hit in transcript.hits if hit.drum == drum and start_s <= hit.time_s < end_s]
    times_s = np.array([hit.time_s for hit in hits])
    tops = lane + _LANE_HEIGHT * np.array([hit.velocity for hit in hits]) / 127
    axes.vlines(times_s, lane, tops, color=color, linewidth=1.3)
    axes.plot(times_s, tops, "o", color=color, markersize=3)
    quantized_s = np.array([hit.quantized_s for hit in hits])
    axes.plot(quantized_s, np.full(len(hits), lane - 0.02), "^", color="black", markersize=3, clip_on=False)
