"""The picture, looked at by its pixels."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app.models.drums.picture import MAX_ROWS, beats_until, draw_drums
from serve_app.results import Drum, DrumHit, DrumTranscript, TempoChange

LABELS = ("cymbal", "snare", "kick", "hihat")  # in an order of their own, as a checkpoint may have them
# What the lanes are drawn in, at full strength.
COLORS = {Drum.KICK: (0x00, 0x72, 0xB2), Drum.SNARE: (0xD5, 0x5E, 0x00), Drum.HIHAT: (0x00, 0x9E, 0x73)}


def transcript(duration_s: float, *hits: DrumHit, tempo: tuple[TempoChange, ...] | None = None) -> DrumTranscript:
    return DrumTranscript(hits, 120.0, tempo or (TempoChange(0.25, 120.0),), duration_s, "test")


def activations(duration_s: float, **peaks_s: float) -> Any:
    probabilities = np.zeros((int(duration_s * 100), len(LABELS)), np.float16)
    for label, time_s in peaks_s.items():
        probabilities[round(time_s * 100), LABELS.index(label)] = 0.9
    return SimpleNamespace(probabilities=probabilities, labels=LABELS, frames_per_s=100)


def drawn(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has_color(picture: np.ndarray, drum: Drum) -> np.ndarray:
    """Return where a picture has a drum's colour, at half strength at least: edges are smoothed, (height, width)."""
    ink = 255.0 - np.array(COLORS[drum])
    strength = (255.0 - picture) @ ink / (ink @ ink)
    rest = np.abs(255.0 - picture - strength[..., None] * ink).max(axis=2)
    return (strength > 0.5) & (rest < 20)


def test_each_hit_is_drawn_in_its_drums_colour() -> None:
    hit = DrumHit(1.0, 1.0, Drum.SNARE, 127, 0.9)
    picture = drawn(draw_drums(transcript(2.0, hit), activations(2.0)))
    assert has_color(picture, Drum.SNARE).sum() > 50
    assert not has_color(picture, Drum.KICK).any()
    assert not has_color(picture, Drum.HIHAT).any()


def test_louder_hits_are_higher() -> None:
    heights = []
    for velocity in (30, 120):
        hit = DrumHit(1.0, 1.0, Drum.KICK, velocity, 0.9)
        rows = has_color(drawn(draw_drums(transcript(2.0, hit), activations(2.0))), Drum.KICK).any(axis=1)
        heights.append(np.ptp(np.nonzero(rows)[0]))
    assert heights[1] > 2.5 * heights[0]


def test_activations_are_those_of_the_drum() -> None:
    empty = drawn(draw_drums(transcript(2.0), activations(2.0)))
    other = drawn(draw_drums(transcript(2.0), activations(2.0, cymbal=1.0)))
    kick = drawn(draw_drums(transcript(2.0), activations(2.0, kick=1.0)))
    assert np.array_equal(empty, other)
    changed = np.argwhere((kick != empty).any(axis=2))
    assert len(changed) > 20
    # in the lowest lane, in the middle of the row
    assert changed[:, 0].min() > 0.5 * empty.shape[0]
    assert abs(np.median(changed[:, 1]) / empty.shape[1] - 0.5) < 0.05


def test_thresholds_are_drawn_where_they_are_given() -> None:
    thresholds = {"kick": 0.5, "snare": 0.4, "hihat": 0.3}
    with_lines = drawn(draw_drums(transcript(2.0), activations(2.0), thresholds))
    assert not np.array_equal(with_lines, drawn(draw_drums(transcript(2.0), activations(2.0))))


@pytest.mark.parametrize("duration_s", [0.0, 0.003, 9.99, 10.01, 3600.0])
def test_size_is_bounded_whatever_the_length(duration_s: float) -> None:
    picture = drawn(draw_drums(transcript(duration_s), activations(duration_s)))
    height, width, _ = picture.shape
    assert width == 1600
    num_rows = (height - 70) / 190
    assert num_rows == {10.01: 2, 3600.0: MAX_ROWS}.get(duration_s, 1)


def test_beats_of_a_changing_tempo() -> None:
    tempo = (TempoChange(0.5, 120.0), TempoChange(2.02, 60.0))
    assert beats_until(transcript(9.0, tempo=tempo), 5.0) == pytest.approx([0.5, 1.0, 1.5, 2.02, 3.02, 4.02])
    assert beats_until(transcript(9.0, tempo=tempo), 1.2) == pytest.approx([0.5, 1.0])
    assert len(beats_until(transcript(9.0, tempo=tempo), 0.2)) == 0


def test_several_threads_draw_at_once() -> None:
    hit = DrumHit(1.0, 1.0, Drum.HIHAT, 90, 0.9)
    pictures: list[bytes] = []
    draw = lambda: pictures.append(draw_drums(transcript(2.0, hit), activations(2.0, hihat=1.0)))  # noqa: E731
    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pictures) == 4
    assert len(set(pictures)) == 1
