"""The best path, against all paths, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from serve_app.models.speech.alignment.ctc import symbol_frames

BLANK = 0


def heard(text: str, symbols: str = "-ab ", sure: float = 0.97) -> np.ndarray:
    """Return log probabilities of a model that hears one symbol in each frame."""
    others = (1 - sure) / (len(symbols) - 1)
    rows = [[sure if symbol == said else others for symbol in symbols] for said in text]
    return np.log(np.array(rows, dtype=np.float32))


@pytest.mark.parametrize(
    ("frames", "symbols", "expected"),
    [
        ("--a--b--", [1, 2], [(2, 5), (5, 6)]),  # said in one frame each
        ("--aaabbb--", [1, 2], [(2, 5), (5, 8)]),  # held
        ("-aa-aa-", [1, 1], [(1, 4), (4, 6)]),  # the same letter twice
        ("ab", [1, 2], [(0, 1), (1, 2)]),
        ("a", [1], [(0, 1)]),
        ("aa  bb", [1, 3, 2], [(0, 2), (2, 4), (4, 6)]),
    ],
)
def test_by_hand(frames, symbols, expected):
    assert [tuple(row) for row in symbol_frames(heard(frames), symbols, BLANK)] == expected


def test_the_path_found_is_the_likeliest_of_all():
    rng = np.random.default_rng(0)
    for symbols in ([1, 2], [1, 1], [2, 1, 2], [1]):
        scores = rng.normal(size=(6, 3)).astype(np.float32)
        log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        best, best_path = -np.inf, ()
        for path in itertools.product(range(3), repeat=6):
            said = [symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK]
            score = float(log_probabilities[np.arange(6), list(path)].sum())
            if said == symbols and score > best:
                best, best_path = score, path
        firsts = [
            index
            for index, symbol in enumerate(best_path)
            if symbol != BLANK and (index == 0 or best_path[index - 1] != symbol)
        ]
        found = symbol_frames(log_probabilities, symbols, BLANK)
        assert found[:, 0].tolist() == firsts
        assert found[:-1, 1].tolist() == firsts[1:]


def test_what_the_alphabet_lacks_takes_the_sound_that_is_left_over():
    # "a 7 b", where 7 sounds like "ba ab", in words of its own
    found = symbol_frames(heard("-aa- baaab--bb-  bb-"), [1, 3, None, 3, 2], BLANK)
    (_, a_end), _, (first, end), _, (b_first, b_end) = found.tolist()
    assert (a_end, b_first, b_end) == (4, 17, 19)
    assert (first, end) == (5, 15)


def test_two_unknown_sounds_in_a_row_need_no_blank_between():
    assert symbol_frames(heard("ab"), [None, None], BLANK).tolist() == [[0, 1], [1, 2]]


def test_fewer_frames_than_symbols_have_no_path():
    assert symbol_frames(heard("ab"), [1, 2, 1], BLANK) is None
    assert symbol_frames(heard("aa"), [1, 1], BLANK) is None  # a blank must fit in between
    assert symbol_frames(heard("aa")[:0], [1], BLANK) is None
    assert symbol_frames(heard("aa"), [], BLANK) is None
