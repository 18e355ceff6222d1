"""Pieces cut from regions of speech."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from serve_app.models.speech.pieces import cut_at_silences, recognizer_pieces, speech_inside, with_margins
from serve_app.results import SpeechRegion


def regions(*spans: tuple[float, float]) -> tuple[SpeechRegion, ...]:
    return tuple(SpeechRegion(start, end) for start, end in spans)


def test_short_speech_is_one_piece() -> None:
    assert cut_at_silences(regions((1, 5), (6, 20)), 25.0) == regions((1, 20))
    assert cut_at_silences((), 25.0) == ()


def test_cut_falls_into_the_longest_pause_of_the_last_quarter() -> None:
    spoken = regions((0, 8), (12, 17), (17.5, 20), (21.5, 25), (25.4, 29), (29.3, 40))
    assert cut_at_silences(spoken, 40.0) == regions((0, 25), (25.4, 40))


def test_last_early_pause_is_used_where_no_late_one_is() -> None:
    assert cut_at_silences(regions((0, 5), (8, 10), (11, 39)), 40.0) == regions((0, 10), (11, 39))


def test_long_silence_is_in_no_piece() -> None:
    assert cut_at_silences(regions((0, 1), (6, 7), (11.9, 13)), 30.0) == regions((0, 1), (6, 13))


def test_speech_without_pause_is_cut_into_equal_parts() -> None:
    assert cut_at_silences(regions((0, 70)), 70.0, 30.0) == regions((0, 70 / 3), (70 / 3, 140 / 3), (140 / 3, 70))


def test_pieces_are_clamped_to_the_file() -> None:
    assert cut_at_silences(regions((-1, 5), (9, 12), (13, 14)), 10.0, 30.0) == regions((0, 10))


@pytest.mark.parametrize("max_piece_s", [5.0, 15.0, 30.0])
def test_pieces_cover_all_speech_and_stay_short(max_piece_s: float) -> None:
    random = np.random.default_rng(7)
    edges = np.cumsum(random.exponential(3.0, 2000) + 0.05)
    spoken = tuple(SpeechRegion(float(a), float(b)) for a, b in edges.reshape(-1, 2))
    pieces = cut_at_silences(spoken, float(edges[-1]), max_piece_s)
    assert all(0 < piece.end_s - piece.start_s <= max_piece_s + 1e-9 for piece in pieces)
    assert all(before.end_s <= after.start_s for before, after in pairwise(pieces))
    covered = sum(
        max(0.0, min(piece.end_s, region.end_s) - max(piece.start_s, region.start_s))
        for piece in pieces
        for region in spoken
    )
    assert covered == pytest.approx(sum(region.end_s - region.start_s for region in spoken))


def test_piece_length_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        cut_at_silences(regions((0, 1)), 1.0, 0.0)


def test_a_day_of_short_regions_is_cut_at_once() -> None:
    spoken = [SpeechRegion(float(second), second + 0.5) for second in range(24 * 3600)]
    begin = time.process_time()
    pieces = cut_at_silences(spoken, 24 * 3600.0)
    assert time.process_time() - begin < 5.0
    assert 24 * 3600 / 30 <= len(pieces) <= 24 * 3600 / 14


def test_margins_reach_into_the_silence_around() -> None:
    assert with_margins(regions((1, 5), (6, 20)), 25.0, 0.2) == regions((0.8, 5.2), (5.8, 20.2))


def test_margins_meet_in_a_short_pause_and_stay_in_the_file() -> None:
    assert with_margins(regions((0.1, 5), (5.2, 20)), 20.0, 0.2) == regions((0.0, 5.1), (5.1, 20.0))
    assert with_margins((), 20.0) == ()


def test_a_recognisers_pieces_fit_its_window_margins_included() -> None:
    pieces = recognizer_pieces(regions((0.0, 100.0)), 100.0, 30.0)
    assert all(piece.end_s - piece.start_s <= 30.0 + 1e-9 for piece in pieces)
    assert pieces[0].start_s == 0.0
    assert pieces[-1].end_s == 100.0


def test_a_piece_gets_the_speech_that_lies_in_it() -> None:
    spoken = regions((0, 2), (3, 6), (7, 9), (10, 11))
    assert speech_inside(spoken, SpeechRegion(1.0, 8.0)) == regions((1, 2), (3, 6), (7, 8))
    assert speech_inside(spoken, SpeechRegion(2.0, 3.0)) == ()
    assert speech_inside((), SpeechRegion(2.0, 3.0)) == ()
