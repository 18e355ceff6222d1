"""Recordings with known words, and how they are compared with what was heard."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from loadtests.whisper_speech import FlacWriter, compare, write_clips, write_long
from serve_app.media.decode import decode_audio
from serve_app.scoring import TimedWord, align
from training.whisper_micro.synthesis import MissingSynthesizerError


def words(num: int, *, per_s: float = 2.5, seed: int = 0) -> list[TimedWord]:
    """Return a long text of a small vocabulary, with a pause after every tenth word."""
    rng = np.random.default_rng(seed)
    return [TimedWord(f"w{rng.integers(40)}", i / per_s + 1.5 * (i // 10), None) for i in range(num)]


def test_flac_holds_what_was_written(tmp_path: Path) -> None:
    samples = (0.5 * np.sin(np.arange(50_001) / 20)).astype(np.float32)
    with FlacWriter(tmp_path / "a.flac") as flac:
        for part in np.array_split(samples, 7):
            flac.write(part)
    assert flac.duration_s == pytest.approx(50_001 / 16_000)
    heard = decode_audio(str(tmp_path / "a.flac")).samples
    assert heard.size == samples.size
    assert np.abs(heard - samples).max() < 1e-4


def test_equal_texts_agree() -> None:
    said = words(1500)
    found = compare(said, [TimedWord(w.word, w.start_s + 0.02, None) for w in said])
    assert (found.num_words, found.num_errors) == (1500, 0)
    assert found.start_errors_s == pytest.approx(np.full(1500, 0.02))


def test_a_long_text_has_the_errors_of_one_alignment_of_it_all() -> None:
    said = words(1500)
    heard = [w for i, w in enumerate(said) if i % 17]  # lost
    heard[100:100] = [TimedWord("new", heard[100].start_s - 0.05, None)] * 3  # added
    heard[700] = TimedWord("other", heard[700].start_s, None)
    found = compare(said, heard)
    pairs = align(said, heard)
    right = sum(i is not None and j is not None and said[i].word == heard[j].word for i, j in pairs)
    assert found.num_errors == len(pairs) - right == 1500 - len([i for i in range(1500) if i % 17]) + 4
    assert found.is_insertion.sum() == 3


def test_errors_lie_where_they_happened() -> None:
    said = words(30)
    heard = [*said[:12], *said[13:20], TimedWord("extra", 99.0, None), *said[20:]]
    found = compare(said, heard)
    assert sorted(zip(found.wrong_at_s.tolist(), found.is_insertion.tolist(), strict=True)) == [
        (said[12].start_s, False),
        (99.0, True),
    ]


def test_what_is_heard_after_the_last_word_counts() -> None:
    said = words(10)
    found = compare(said, [*said, TimedWord("more", 1000.0, None)])
    assert (found.num_errors, found.word_error_rate) == (1, 0.1)


def test_nothing_said() -> None:
    found = compare([], words(3))
    assert (found.num_words, found.num_errors) == (0, 3)
    assert np.isnan(found.word_error_rate)


def test_clips_are_as_long_as_asked_for_and_hold_whole_utterances(tmp_path: Path) -> None:
    try:
        clips = write_clips(tmp_path, 3, 8.0, seed=1)
    except MissingSynthesizerError as error:
        pytest.skip(str(error))
    for clip in clips:
        audio = decode_audio(str(clip.path))
        assert audio.samples.size == 8 * 16_000
        assert clip.words[-1].end_s <= 8.0
        assert len(clip.text.split()) == len(clip.words) > 5
        voiced = [np.abs(audio.samples[round(w.start_s * 16e3) : round(w.end_s * 16e3)]).max() for w in clip.words]
        assert min(voiced) > 0.001  # there is sound where a word is said to be
    assert len({clip.text for clip in clips}) == 3


def test_a_long_file_has_its_words_in_order_and_pauses_between_utterances(tmp_path: Path) -> None:
    try:
        recording = write_long(tmp_path / "long.flac", 0.6, seed=3)
    except MissingSynthesizerError as error:
        pytest.skip(str(error))
    assert 36 <= recording.duration_s < 60
    assert decode_audio(str(recording.path)).duration_s == pytest.approx(recording.duration_s)
    starts = [word.start_s for word in recording.words]
    assert starts == sorted(starts)
    edges = np.array(recording.utterances)
    assert edges[1:, 0] == pytest.approx(edges[:-1, 1])  # every moment belongs to one
    inside = [[w for w in recording.words if start <= w.start_s < end] for start, end in recording.utterances]
    pauses = [b[0].start_s - a[-1].end_s for a, b in pairwise(inside)]
    assert min(pauses) > 0.25
    assert max(pauses) < 3.2
