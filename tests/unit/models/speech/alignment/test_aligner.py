"""Forced alignment by real wav2vec 2.0 networks, tiny ones, of which one was taught its letters."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from serve_app.errors import GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.speech.alignment import aligner as aligner_module
from serve_app.models.speech.alignment.aligner import RETRY_LOADING_S, ForcedAligner
from serve_app.results import Segment, Timing, Transcript, Word
from tests.unit.models.speech.tone_models import (
    LETTERS,
    SAMPLE_RATE_HZ,
    random_words,
    sing,
    write_align_model,
    write_trained_align_model,
)

NAN = math.nan


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Networks this small are slower with more, very much so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return ForcedAligner(
        {"en": str(write_trained_align_model(folder / "model"))}, device="cpu", cache_dir=folder / "cache"
    )


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Random weights, for letters of four languages: what holds for it holds for any model."""
    folder = tmp_path_factory.mktemp("untrained")
    symbols = {"en": LETTERS, "ko": "안녕하세요", "zh": "你好世界", "ja": "こんにちは"}
    models = {name: str(write_align_model(folder / name, tuple(letters))) for name, letters in symbols.items()}
    return ForcedAligner(models, device="cpu", cache_dir=folder / "cache")


def transcript(segments, language="en", notes=()):
    """Return a transcript of (start, end, text, words)."""
    return Transcript(tuple(Segment(*given) for given in segments), language, "ears-1", notes)


def untimed(*words):
    return tuple(Word(word, NAN, NAN) for word in words)


def noise(duration_s, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, round(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)


def check_invariants(before: Transcript, after: Transcript, start_s: float, end_s: float) -> None:
    """Every word is there, in order, inside its segment, and that inside the piece."""
    assert [s.text for s in after.segments] == [s.text for s in before.segments]
    assert (after.language, after.model_version) == (before.language, before.model_version)
    for old, new in zip(before.segments, after.segments, strict=True):
        if old.words:
            assert [w.word for w in new.words] == [w.word for w in old.words]
            assert [w.confidence for w in new.words] == [w.confidence for w in old.words]
        assert start_s <= new.start_s <= new.end_s <= end_s
        for word in new.words:
            assert new.start_s <= word.start_s <= word.end_s <= new.end_s
        for left, right in pairwise(new.words):
            assert left.end_s <= right.start_s
    for left, right in pairwise(after.segments):
        assert left.end_s <= right.start_s


def test_words_begin_and_end_where_they_are_heard(trained):
    rng = np.random.default_rng(1)
    starts, ends = [], []
    for _ in range(2):
        sung = sing(random_words(rng, 20), rng)
        offset_s = 7.25
        duration_s = len(sung.samples) / SAMPLE_RATE_HZ
        text = " ".join(word for word, *_ in sung.words)
        # what a recogniser may have told: all of it in one place
        words = tuple(Word(word, offset_s, offset_s + 0.1, 0.5) for word, *_ in sung.words)
        heard = transcript([(offset_s, offset_s + duration_s, text, words)])
        found = trained.align(sung.samples, heard, offset_s)
        check_invariants(heard, found, offset_s, offset_s + duration_s)
        assert {word.timing for word in found.segments[0].words} == {Timing.ALIGNED}
        for word, (_, start_s, end_s) in zip(found.segments[0].words, sung.words, strict=True):
            starts.append(abs(word.start_s - offset_s - start_s))
            ends.append(abs(word.end_s - offset_s - end_s))
        assert found.segments[0].start_s == found.segments[0].words[0].start_s
        assert found.segments[0].end_s == found.segments[0].words[-1].end_s
    # one frame is 0.02 s; letters are 0.06 s and longer, pauses 0.08 s
    assert np.median(starts) < 0.02
    assert max(starts) < 0.06
    assert np.median(ends) < 0.04
    assert np.percentile(ends, 95) < 0.08


def test_segments_are_aligned_each_in_its_own_room_and_a_cut_off_word_is_found_beside_it(trained):
    rng = np.random.default_rng(2)
    sung = [sing(["abc", "de"], rng, pause_s=(0.3, 0.4)) for _ in range(2)]
    samples = np.concatenate([one.samples for one in sung])
    shift_s = len(sung[0].samples) / SAMPLE_RATE_HZ
    truth = [(w, a + k * shift_s, b + k * shift_s) for k, one in enumerate(sung) for w, a, b in one.words]
    # each segment lacks 0.1 s of its first and last word
    edges = [(truth[0][1] + 0.1, truth[1][2] - 0.1), (truth[2][1] + 0.1, truth[3][2] - 0.1)]
    heard = transcript([(a, b, "abc de", untimed("abc", "de")) for a, b in edges])
    found = trained.align(samples, heard)
    check_invariants(heard, found, 0.0, len(samples) / SAMPLE_RATE_HZ)
    words = [word for segment in found.segments for word in segment.words]
    assert [word.start_s for word in words] == pytest.approx([start_s for _, start_s, _ in truth], abs=0.06)


def test_a_number_takes_the_sound_between_its_neighbours_and_says_that_it_was_put_there(trained):
    rng = np.random.default_rng(3)
    sung = sing(["abc", "xyz", "de"], rng, letter_s=(0.1, 0.14))  # x, y, z: sounds of no letter
    duration_s = len(sung.samples) / SAMPLE_RATE_HZ
    words = untimed("abc,", "42", "—", "de.")
    found = trained.align(sung.samples, transcript([(0, duration_s, "abc, 42 — de.", words)])).segments[0].words
    assert [word.timing for word in found] == [
        Timing.ALIGNED,
        Timing.INTERPOLATED,
        Timing.INTERPOLATED,
        Timing.ALIGNED,
    ]
    (_, abc_start_s, _), (_, number_start_s, number_end_s), (_, de_start_s, _) = sung.words
    assert found[0].start_s == pytest.approx(abc_start_s, abs=0.06)
    assert found[3].start_s == pytest.approx(de_start_s, abs=0.06)
    assert found[1].start_s <= (number_start_s + number_end_s) / 2 <= found[1].end_s
    assert found[1].end_s <= found[2].start_s <= found[2].end_s <= found[3].start_s


def test_letters_held_long_and_sung_twice(trained):
    rng = np.random.default_rng(4)
    sung = sing(["a", "a", "a", "ga", "a"], rng, letter_s=(0.2, 0.4), pause_s=(0.3, 0.6))
    words = untimed(*(word for word, *_ in sung.words))
    heard = transcript([(0, len(sung.samples) / SAMPLE_RATE_HZ, "a a a ga a", words)])
    found = trained.align(sung.samples, heard).segments[0].words
    assert [word.start_s for word in found] == pytest.approx([start_s for _, start_s, _ in sung.words], abs=0.06)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "abc def, gha!", ("abc", "def,", "gha!")),
        ("en", "well-known abc", ("well", "-known", "abc")),
        ("en", "12 345", ("12", "345")),
        ("en", "abc 12 …  qqq", ("abc", "12", "…", "qqq")),
        ("ko", "안녕하세요 여러분 안녕", ("안녕하세요", "여러분", "안녕")),
        ("zh", "你好，世界。", ("你好，", "世", "界。")),
        ("ja", "こんにちは世界", ("こん", "にちは", "世界")),
    ],
)
def test_every_word_has_times_whatever_the_model_hears(untrained, language, text, words):
    given = tuple(Word(word, 10.5 + 0.1 * n, 10.55 + 0.1 * n, 0.9) for n, word in enumerate(words))
    heard = transcript([(10.4, 11.6, text, given), (11.7, 11.9, text, given)], language, ("a note",))
    found = untrained.align(noise(2.0), heard, 10.0)
    check_invariants(heard, found, 10.0, 12.0)
    assert found.notes[0] == "a note"


def test_words_of_a_bare_text_are_made_and_timed(untrained):
    for language, text, words in (("en", "abc  def", ["abc", "def"]), ("zh", "你好 世", ["你", "好", "世"])):
        found = untrained.align(noise(1.0), transcript([(0.0, 1.0, text)], language)).segments[0]
        assert [word.word for word in found.words] == words
        assert {word.timing for word in found.words} == {Timing.ALIGNED}
        assert all(0 <= word.start_s < word.end_s <= 1.0 for word in found.words)


def test_more_letters_than_sounds_keep_the_recognisers_times_and_a_note_says_so(untrained):
    words = (Word("abcdefgh" * 9, 0.1, 0.3), Word("abc", NAN, NAN))
    heard = transcript([(0.0, 0.6, "…", words), (0.7, 1.5, "abc", untimed("abc"))])
    found = untrained.align(noise(2.0), heard)
    check_invariants(heard, found, 0.0, 2.0)
    first, second = found.segments[0].words
    assert (first.start_s, first.end_s, first.timing) == (0.1, 0.3, Timing.ALIGNED)
    assert second.timing is Timing.INTERPOLATED
    assert found.notes == ("words of 1 segments could not be aligned and keep the recogniser's times",)


def test_confidences_of_a_segment_are_kept(untrained):
    segment = Segment(0.0, 1.0, "abc", untimed("abc"), -0.25, 0.01)
    found = untrained.align(noise(1.0), Transcript((segment,), "en", "ears-1")).segments[0]
    assert (found.avg_logprob, found.no_speech_prob) == (-0.25, 0.01)


def test_pieces_without_anything_to_align_come_back_as_they_are(untrained):
    german = transcript([(0.0, 1.0, "abc", untimed("abc"))], "de")
    assert untrained.align(noise(1.0), german) is german
    empty = transcript([])
    assert untrained.align(noise(1.0), empty) is empty
    nothing = transcript([(0.0, 1.0, "abc", (Word("abc", 0.0, 1.0),))])
    assert untrained.align(noise(0.0), nothing) is nothing
    wordless = transcript([(0.0, 1.0, " ")])
    assert untrained.align(noise(1.0), wordless) == wordless


def test_the_shortest_piece_and_silence_are_no_trouble(untrained):
    heard = transcript([(5.0, 5.01, "abc", (Word("abc", 5.0, 5.01),))])
    check_invariants(heard, untrained.align(noise(0.01), heard, 5.0), 5.0, 5.01)
    silent = transcript([(0.0, 1.0, "abc", (Word("abc", 0.0, 1.0),))])
    check_invariants(silent, untrained.align(np.zeros(SAMPLE_RATE_HZ, np.float32), silent), 0.0, 1.0)
    broken = np.full(SAMPLE_RATE_HZ, np.nan, np.float32)
    check_invariants(silent, untrained.align(broken, silent), 0.0, 1.0)


def test_a_segment_that_sticks_out_of_the_piece_is_brought_inside(untrained):
    heard = transcript([(9.9, 11.3, "abc def", (Word("abc", 9.9, 10.2), Word("def", 10.9, 11.3)))])
    check_invariants(heard, untrained.align(noise(1.0), heard, 10.0), 10.0, 11.0)


def test_a_piece_has_at_most_30_seconds(untrained):
    heard = transcript([(0.0, 1.0, "abc", untimed("abc"))])
    with pytest.raises(ProcessingError, match="at most 30 s"):
        untrained.align(noise(32.0), heard)


def test_the_caller_can_end_it_between_segments(untrained):
    heard = transcript([(n / 2, n / 2 + 0.4, "abc", untimed("abc")) for n in range(4)])
    asked = iter([False, False, True])
    with pytest.raises(ProcessingError, match="stopped"):
        untrained.align(noise(2.0), heard, should_stop=lambda: next(asked))


def test_a_model_is_loaded_when_first_needed_and_kept(tmp_path, monkeypatch):
    loaded = []
    load = aligner_module.load_align_model

    def counted(spec, language, **given):
        loaded.append(language)
        return load(spec, language, **given)

    monkeypatch.setattr(aligner_module, "load_align_model", counted)
    models = {"en": str(write_align_model(tmp_path / "en")), "fr": "/nowhere/model"}
    aligner = ForcedAligner(models, device="cpu", cache_dir=tmp_path)
    assert (aligner.languages, loaded) == (("en", "fr"), [])
    heard = transcript([(0.0, 1.0, "abc", untimed("abc"))])
    first = aligner.align(noise(1.0), heard)
    assert aligner.align(noise(1.0), heard) == first
    assert loaded == ["en"]


def test_a_model_that_can_not_be_had_is_asked_for_again_after_a_while(tmp_path, monkeypatch):
    aligner = ForcedAligner({"en": str(tmp_path / "model")}, device="cpu", cache_dir=tmp_path)
    heard = transcript([(0.0, 1.0, "abc", untimed("abc"))])
    now_s = 1000.0
    monkeypatch.setattr(aligner_module.time, "monotonic", lambda: now_s)
    with pytest.raises(ModelLoadingError, match="no file or folder"):
        aligner.align(noise(1.0), heard)
    write_align_model(tmp_path / "model")
    now_s += RETRY_LOADING_S - 1
    with pytest.raises(ModelLoadingError, match="no file or folder"):
        aligner.align(noise(1.0), heard)
    now_s += 1
    assert aligner.align(noise(1.0), heard).segments[0].words[0].timing is Timing.ALIGNED


def test_out_of_gpu_memory_is_told_and_the_model_stays_usable(untrained, monkeypatch):
    heard = transcript([(0.0, 1.0, "abc", untimed("abc"))])
    untrained.align(noise(1.0), heard)
    network = untrained._models["en"]._network
    with monkeypatch.context() as patch:
        patch.setattr(network, "forward", _out_of_memory)
        with pytest.raises(GpuMemoryError, match="aligning"):
            untrained.align(noise(1.0), heard)
    check_invariants(heard, untrained.align(noise(1.0), heard), 0.0, 1.0)


def _out_of_memory(*args, **kwargs):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
