"""What the backends share, over a network that is made up: what it hears is told by how loud a piece is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whisper.tokenizer
from numpy.typing import NDArray

from serve_app.errors import GpuMemoryError, LanguageUnsupported, ProcessingError, TaskUnsupported
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper.decoding_rules import DecodingRules, Hypothesis
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.spoken_words import TokenTimes
from serve_app.models.speech.whisper.transcript_draft import AGAIN, GARBLED, LOOP, NO_SPEECH, RETRIED, SAMPLED
from serve_app.results import UNDETERMINED, SpeechRegion, SpeechTask

QUIET, LOUD, MUMBLED, SILENT_ROOM = 0.01, 0.1, 0.3, 0.6  # amplitudes
WORDS = {QUIET: " quiet words", LOUD: " 크게 말합니다", MUMBLED: " mumbled", SILENT_ROOM: " thank you"}
LANGUAGES = {QUIET: "en", LOUD: "ko", MUMBLED: "en", SILENT_ROOM: "en"}
OPENAI = whisper.tokenizer.get_tokenizer(True, num_languages=99, language="en", task="transcribe")
REPEATED = " again and again" * 30


class FakeWhisper(BatchedWhisper[list[float]]):
    """Its encoding is the amplitude of each piece."""

    name = BackendName.FASTER_WHISPER

    def __init__(
        self,
        checkpoint: WhisperCheckpoint,
        *,
        max_batch: int = 8,
        most_pieces: int = 99,
        beam_size: int | None = None,
    ) -> None:
        options = WhisperOptions(cache_dir=Path("unused"), batch_size=max_batch, beam_size=beam_size)
        super().__init__(checkpoint, options, number_format="float32")
        self.most_pieces = most_pieces
        self.calls: list[tuple[str, object]] = []
        self.freed = 0
        self.sureness = 0.97  # of languages
        # text, log probability and no-speech probability by amplitude and temperature, where they are not the usual
        self.answers: dict[tuple[float, float], tuple[str, float, float]] = {}

    def calls_of(self, name: str) -> list[object]:
        return [what for called, what in self.calls if called == name]

    def _encode(self, features: NDArray[np.float32]) -> list[float]:
        assert features.shape[1:] == (80, 3000)
        self.calls.append(("encode", len(features)))
        if len(features) > self.most_pieces:
            raise RuntimeError("CUDA failed with error out of memory")
        # the loudest bin of a tone tells its amplitude: log10 of the power, scaled as Whisper scales it
        loudest = 10 ** ((features.max(axis=(1, 2)) * 4 - 4) / 2)
        ratios = loudest / self.scale
        return [min(WORDS, key=lambda known: abs(np.log(known / ratio))) for ratio in ratios]

    scale = 1.0
    covered = 1.0  # part of a window that its words take

    def _take(self, encoded: list[float], rows: Sequence[int]) -> list[float]:
        return [encoded[row] for row in rows]

    def _language_probabilities(self, encoded: list[float]) -> NDArray[np.float32]:
        self.calls.append(("detect", len(encoded)))
        codes = list(self.tokens.language_ids)
        rows = np.full((len(encoded), len(codes)), (1 - self.sureness) / (len(codes) - 1), np.float32)
        for row, amplitude in zip(rows, encoded, strict=True):
            row[codes.index(LANGUAGES[amplitude])] = self.sureness
        return rows

    def _generate(
        self, encoded: list[float], prompts: Sequence[Sequence[int]], beam_size: int, temperature: float
    ) -> list[Hypothesis]:
        self.calls.append(("generate", (beam_size, temperature, tuple(map(tuple, prompts)))))
        assert len({len(prompt) for prompt in prompts}) == 1
        assert len(prompts) == len(encoded)
        assert not temperature or (len(encoded), beam_size) == (1, 1)
        answers = []
        for amplitude in encoded:
            doubtful = amplitude in (MUMBLED, SILENT_ROOM) and beam_size == 1
            usual = (
                WORDS[amplitude] + (" greedily" if doubtful else ""),
                -1.5 if doubtful else -0.1,
                0.9 if amplitude == SILENT_ROOM else 0.0,
            )
            text, avg_logprob, no_speech_prob = self.answers.get((amplitude, temperature), usual)
            tokens = OPENAI.encode(text)
            answers.append(Hypothesis((*tokens, self.tokens.timestamp_begin), avg_logprob, no_speech_prob))
        return answers

    def _align(
        self, encoded: list[float], start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        self.calls.append(("align", (tuple(start), len(texts))))
        assert len(encoded) == len(texts) == len(num_frames)
        assert all(token < self.tokens.end_of_text for text in texts for token in text)
        return [
            TokenTimes(np.linspace(0, self.covered * frames / 100, len(text) + 1).tolist(), [0.5] * len(text))
            for text, frames in zip(texts, num_frames, strict=True)
        ]

    def _free_memory(self) -> None:
        self.freed += 1


def tone(amplitude: float, duration_s: float = 1.0) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * 1000 * np.arange(round(duration_s * 16_000)) / 16_000)).astype(np.float32)


def piece(
    amplitude: float, language: str = "auto", *, duration_s: float = 1.0, offset_s: float = 0.0, **about: Any
) -> SpeechPiece:
    return SpeechPiece(tone(amplitude, duration_s), offset_s, language, **about)


@pytest.fixture(scope="module")
def checkpoint(mini_whisper: Path) -> WhisperCheckpoint:
    return open_checkpoint(mini_whisper)


@pytest.fixture
def fake(checkpoint: WhisperCheckpoint, monkeypatch: pytest.MonkeyPatch) -> FakeWhisper:
    backend = FakeWhisper(checkpoint)
    unit = backend._mel.batch([tone(1.0)]).max()
    monkeypatch.setattr(FakeWhisper, "scale", 10 ** ((unit * 4 - 4) / 2))
    return backend


def texts(transcripts: Sequence) -> list[str]:
    return [" ".join(segment.text for segment in transcript.segments) for transcript in transcripts]


def test_each_piece_gets_its_own_words_in_order(fake: FakeWhisper) -> None:
    heard = fake.transcribe([piece(LOUD, offset_s=5.0), piece(QUIET), piece(LOUD)])
    assert texts(heard) == ["크게 말합니다", "quiet words", "크게 말합니다"]
    assert [transcript.language for transcript in heard] == ["ko", "en", "ko"]
    assert {transcript.model_version for transcript in heard} == {"faster-whisper:mini-whisper:float32"}
    assert heard[0].segments[0].words[0].start_s == 5.0
    assert all(5.0 <= word.start_s <= word.end_s <= 6.0 for word in heard[0].segments[0].words)


def test_a_batch_is_encoded_once_and_aligned_by_language(fake: FakeWhisper) -> None:
    fake.transcribe([piece(LOUD), piece(QUIET), piece(LOUD)])
    assert fake.calls_of("encode") == [3]
    assert fake.calls_of("detect") == [3]
    assert len(fake.calls_of("generate")) == 1
    assert fake.calls_of("align") == [(tuple(fake.tokens.start("en")), 1), (tuple(fake.tokens.start("ko")), 2)]


def test_told_languages_are_believed_and_not_detected(fake: FakeWhisper) -> None:
    heard = fake.transcribe([piece(LOUD, "ko"), piece(QUIET, "fr")])
    assert [transcript.language for transcript in heard] == ["ko", "fr"]
    assert fake.calls_of("detect") == []
    [(_, _, prompts)] = fake.calls_of("generate")
    assert prompts == tuple((*fake.tokens.start(code), fake.tokens.no_timestamps) for code in ("ko", "fr"))


def test_one_batch_may_hold_transcripts_and_translations(fake: FakeWhisper) -> None:
    translate = SpeechTask.TRANSLATE
    heard = fake.transcribe([piece(LOUD), piece(QUIET, "ja", task=translate), piece(LOUD, task=translate)])
    assert [transcript.language for transcript in heard] == ["ko", "ja", "ko"]
    [(_, _, prompts)] = fake.calls_of("generate")
    begun = [fake.tokens.start("ko"), fake.tokens.start("ja", translate), fake.tokens.start("ko", translate)]
    assert prompts == tuple((*start, fake.tokens.no_timestamps) for start in begun)
    # words are timed after the prompt under which they were decoded
    assert sorted(fake.calls_of("align")) == sorted((tuple(start), 1) for start in begun)
    # a translation is split into words as English is, not at every character as Japanese is
    assert [word.word for word in heard[1].segments[0].words] == ["quiet", "words"]


def test_what_can_not_translate_says_what_can_before_any_work(
    checkpoint: WhisperCheckpoint, mini_whisper: Path, copy_of: Callable[..., Path]
) -> None:
    folder = copy_of(mini_whisper)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tasks": ["transcribe"]}))
    fake = FakeWhisper(open_checkpoint(folder))
    with pytest.raises(TaskUnsupported, match=r"mini-whisper:float32 can't translate: .*whisper-base.*-large-v3"):
        fake.transcribe([piece(LOUD), piece(LOUD, task=SpeechTask.TRANSLATE)])
    assert fake.calls == []
    fake.check_task(SpeechTask.TRANSCRIBE)
    FakeWhisper(checkpoint).check_task(SpeechTask.TRANSLATE)


def test_batches_are_bounded_and_of_one_length_of_prompt(fake: FakeWhisper) -> None:
    fake.max_batch = 2
    pieces = [piece(QUIET), piece(LOUD, prompt="drums"), piece(QUIET), piece(LOUD), piece(LOUD, prompt="cups")]
    assert texts(fake.transcribe(pieces)) == [
        "quiet words",
        "크게 말합니다",
        "quiet words",
        "크게 말합니다",
        "크게 말합니다",
    ]
    assert fake.calls_of("encode") == [2, 1, 2]
    prompted = fake.calls_of("generate")[-1][2]
    start = (*fake.tokens.start("ko"), fake.tokens.no_timestamps)
    assert prompted == ((*fake.tokens.previous("drums"), *start), (*fake.tokens.previous("cups"), *start))


@pytest.mark.parametrize(("told", "usual", "kept"), [(None, 1, 1), (None, 2, 2), (1, 2, 1), (3, 2, 3)])
def test_a_backend_keeps_as_many_hypotheses_as_it_is_told_or_as_suits_it(
    checkpoint: WhisperCheckpoint, monkeypatch: pytest.MonkeyPatch, told: int | None, usual: int, kept: int
) -> None:
    monkeypatch.setattr(FakeWhisper, "usual_beam_size", usual)
    backend = FakeWhisper(checkpoint, beam_size=told)
    backend.transcribe([piece(LOUD, "ko")])
    assert next(beam for beam, _, _ in backend.calls_of("generate")) == kept


def test_doubtful_answers_alone_are_decoded_again_and_said_so(fake: FakeWhisper) -> None:
    heard = fake.transcribe([piece(QUIET), piece(MUMBLED), piece(LOUD)])
    assert texts(heard) == ["quiet words", "mumbled", "크게 말합니다"]
    assert [transcript.notes for transcript in heard] == [(), (RETRIED,), ()]
    assert fake.calls_of("encode") == [3]
    [first, second] = fake.calls_of("generate")
    assert (first[:2], len(first[2]), second[:2], len(second[2])) == ((1, 0.0), 3, (5, 0.0), 1)


def test_what_stays_doubtful_is_sampled_window_by_window_until_it_is_not(fake: FakeWhisper) -> None:
    fake.answers = {(MUMBLED, 0.0): (REPEATED, -0.1, 0.0), (MUMBLED, 0.4): (REPEATED, -0.1, 0.0)}
    fake.answers[MUMBLED, 0.8] = (" at last", -0.9, 0.0)
    heard = fake.transcribe([piece(MUMBLED), piece(QUIET), piece(MUMBLED)])
    assert texts(heard) == ["at last", "quiet words", "at last"]
    assert [transcript.notes for transcript in heard] == [(SAMPLED,), (), (SAMPLED,)]
    tried = [(beam, temperature, len(prompts)) for beam, temperature, prompts in fake.calls_of("generate")]
    assert tried == [(1, 0.0, 3), (5, 0.0, 2), (1, 0.4, 1), (1, 0.4, 1), (1, 0.8, 1), (1, 0.8, 1)]


def test_the_likeliest_of_improbable_answers_is_kept(fake: FakeWhisper) -> None:
    fake.rules = DecodingRules(min_shown_logprob=-1.25)
    fake.answers = {(MUMBLED, 0.0): (" first", -1.3, 0.0), (MUMBLED, 0.4): (" better", -1.2, 0.0)}
    fake.answers[MUMBLED, 0.8] = (" worse", -2.0, 0.0)
    [heard] = fake.transcribe([piece(MUMBLED)])
    assert texts([heard]) == ["better"]
    assert heard.notes == (SAMPLED,)
    assert heard.segments[0].avg_logprob == -1.2


def test_what_stays_improbable_is_left_out_and_said_so(fake: FakeWhisper) -> None:
    for temperature in (0.0, 0.4, 0.8):
        fake.answers[MUMBLED, temperature] = (" nonsense", -1.3, 0.0)
    [heard] = fake.transcribe([piece(MUMBLED)])
    assert heard.segments == ()
    assert heard.notes == (SAMPLED, GARBLED)


def test_a_loop_that_nothing_breaks_is_left_out_and_said_so(fake: FakeWhisper) -> None:
    for temperature in (0.0, 0.4, 0.8):
        fake.answers[MUMBLED, temperature] = (REPEATED, -0.1, 0.0)
    heard = fake.transcribe([piece(MUMBLED), piece(QUIET)])
    assert texts(heard) == ["", "quiet words"]
    assert heard[0].notes == (SAMPLED, LOOP)


def test_a_doubtful_answer_to_what_is_no_speech_is_silence(fake: FakeWhisper) -> None:
    [heard] = fake.transcribe([piece(SILENT_ROOM)])
    assert heard.segments == ()
    assert heard.language == "en"
    assert heard.notes == (NO_SPEECH,)
    # neither with beams nor by sampling, nor as a gap: it would be the same window
    assert [(beam, temperature) for beam, temperature, _ in fake.calls_of("generate")] == [(1, 0.0)]
    assert fake.calls_of("align") == []


def test_what_can_hold_no_word_is_not_shown_to_the_model(fake: FakeWhisper) -> None:
    nothing = [np.zeros(0), np.zeros(16_000), tone(LOUD, 0.09), np.full(16_000, np.nan)]
    heard = fake.transcribe([SpeechPiece(samples.astype(np.float32)) for samples in nothing])
    assert [(transcript.segments, transcript.language) for transcript in heard] == [((), UNDETERMINED)] * 4
    assert fake.transcribe([SpeechPiece(np.zeros(16_000, np.float32), language="ko")])[0].language == "ko"
    assert fake.calls == []
    assert fake.transcribe([]) == []


def test_broken_samples_are_mended_without_touching_the_callers(fake: FakeWhisper) -> None:
    samples = tone(LOUD)
    samples[100] = np.nan
    before = samples.copy()
    assert texts(fake.transcribe([SpeechPiece(samples)])) == ["크게 말합니다"]
    np.testing.assert_array_equal(samples, before)


def test_half_a_minute_is_a_piece_and_more_is_not(fake: FakeWhisper) -> None:
    [heard] = fake.transcribe([SpeechPiece(tone(LOUD, 30.0))])
    assert texts([heard]) == ["크게 말합니다"]
    assert all(0.0 <= word.start_s <= word.end_s <= 30.0 for part in heard.segments for word in part.words)
    with pytest.raises(ProcessingError, match=r"30\.50 s is longer .*recognizer_pieces"):
        fake.transcribe([SpeechPiece(tone(LOUD, 30.5))])
    with pytest.raises(ProcessingError, match=r"shape \(n,\)"):
        fake.transcribe([SpeechPiece(np.zeros((2, 16_000), np.float32))])


def test_a_language_that_it_was_not_made_for_is_refused_before_any_work(fake: FakeWhisper) -> None:
    with pytest.raises(LanguageUnsupported, match=r"'xx'; it was made for: en, zh, .*…"):
        fake.transcribe([piece(LOUD), piece(LOUD, "xx")])
    assert fake.calls == []
    fake.check_language("auto")
    fake.check_language("ko")


def test_without_room_for_a_batch_its_halves_are_tried(fake: FakeWhisper) -> None:
    fake.most_pieces = 2
    pieces = [piece(amplitude, offset_s=index) for index, amplitude in enumerate([LOUD, QUIET, LOUD, QUIET, LOUD])]
    heard = fake.transcribe(pieces)
    assert texts(heard) == ["크게 말합니다", "quiet words", "크게 말합니다", "quiet words", "크게 말합니다"]
    assert [transcript.segments[0].start_s for transcript in heard] == [0, 1, 2, 3, 4]
    assert fake.calls_of("encode") == [5, 2, 3, 1, 2]
    assert fake.freed == 2


def test_without_room_for_one_piece_it_is_an_error_of_gpu_memory(fake: FakeWhisper) -> None:
    fake.most_pieces = 0
    with pytest.raises(GpuMemoryError, match="while transcribing a batch of 1 with"):
        fake.transcribe([piece(LOUD), piece(QUIET)])
    fake.most_pieces = 99
    assert texts(fake.transcribe([piece(LOUD)])) == ["크게 말합니다"]  # still usable


def test_any_other_failure_of_the_library_is_a_processing_error(
    fake: FakeWhisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(fake, "_generate", fail)
    with pytest.raises(
        ProcessingError, match=r"failed while transcribing a batch of 2 with faster-whisper: .*illegal instruction"
    ):
        fake.transcribe([piece(LOUD), piece(QUIET)])


def test_stops_between_batches(fake: FakeWhisper) -> None:
    fake.max_batch = 1
    answers = iter([False, False, True])
    with pytest.raises(ProcessingError, match="stopped, as its caller asked"):
        fake.transcribe([piece(LOUD)] * 5, should_stop=lambda: next(answers))
    assert fake.calls_of("encode") == [1, 1]


def test_a_checkpoint_of_one_language_can_not_detect_it_and_says_so(fake: FakeWhisper) -> None:
    fake.languages = ("ko",)
    assert not fake.can_detect_languages
    found, told = fake.transcribe([piece(LOUD), piece(LOUD, "ko")])
    assert texts([found, told]) == ["크게 말합니다"] * 2
    assert (found.language, told.language) == (UNDETERMINED, "ko")
    assert found.notes == (
        "the language was not detected: faster-whisper:mini-whisper:float32 transcribes 'ko' alone, and took the "
        "speech for it",
    )
    assert told.notes == ()
    [(_, _, prompts)] = fake.calls_of("generate")
    assert prompts == ((*fake.tokens.start("ko"), fake.tokens.no_timestamps),) * 2
    assert fake.detect_languages([piece(QUIET)]) == [{"ko": 1.0}]
    assert fake.transcribe([SpeechPiece(np.zeros(16_000, np.float32))])[0].notes == ()  # nothing was taken for Korean
    assert fake.calls_of("detect") == []


@pytest.mark.parametrize(
    ("sureness", "duration_s", "likely", "expected"),
    [
        pytest.param(0.85, 5.0, "ko", "ko", id="unsure: the file's"),
        pytest.param(0.97, 5.0, "ko", "en", id="sure: its own"),
        pytest.param(0.97, 2.5, "ko", "ko", id="too short to be sure"),
        pytest.param(0.85, 5.0, None, "en", id="no file's language"),
        pytest.param(0.85, 5.0, "xx", "en", id="a language of another checkpoint"),
    ],
)
def test_a_piece_has_the_files_language_unless_it_is_surely_in_another(
    fake: FakeWhisper, sureness: float, duration_s: float, likely: str | None, expected: str
) -> None:
    fake.sureness = sureness
    [heard] = fake.transcribe([piece(QUIET, duration_s=duration_s, likely_language=likely)])
    assert heard.language == expected
    assert fake.calls_of("generate")[0][2][0][: len(fake.tokens.start("en"))] == tuple(fake.tokens.start(expected))


def test_silence_around_it_makes_a_piece_no_surer_of_its_language(fake: FakeWhisper) -> None:
    speech = (SpeechRegion(1.0, 3.0),)
    [heard] = fake.transcribe([piece(QUIET, duration_s=5.0, likely_language="ko", speech=speech)])
    assert heard.language == "ko"


def test_a_told_language_is_not_questioned(fake: FakeWhisper) -> None:
    [heard] = fake.transcribe([piece(QUIET, "fr", duration_s=5.0, likely_language="ko")])
    assert heard.language == "fr"
    assert fake.calls_of("detect") == []


def test_languages_of_several_windows_come_likeliest_first_and_in_batches(fake: FakeWhisper) -> None:
    fake.max_batch = 2
    found = fake.detect_languages([piece(QUIET), piece(LOUD), piece(QUIET, "fr"), SpeechPiece(tone(LOUD, 0.02))])
    assert [next(iter(row)) for row in found] == ["en", "ko", "en", "ko"]
    for row in found:
        assert list(row.values()) == sorted(row.values(), reverse=True)
        assert sum(row.values()) == pytest.approx(1.0, abs=1e-3)
        assert all(type(probability) is float for probability in row.values())
    assert fake.calls_of("encode") == [2, 2]
    assert fake.detect_languages([]) == []
    with pytest.raises(ProcessingError, match="stopped, as its caller asked"):
        fake.detect_languages([piece(QUIET)], should_stop=lambda: True)
    fake.most_pieces = 1
    with pytest.raises(GpuMemoryError, match="while detecting the language of a batch of 2"):
        fake.detect_languages([piece(QUIET), piece(LOUD)])


def test_languages_that_the_checkpoint_was_not_made_for_are_not_detected(fake: FakeWhisper) -> None:
    fake.languages = ("en", "fr")
    assert set(fake.detect_languages([piece(LOUD)])[0]) == {"en", "fr"}
    assert fake.transcribe([piece(LOUD)])[0].language in ("en", "fr")


def loud_then_quiet(offset_s: float = 0.0, **about: Any) -> SpeechPiece:
    """Return a piece of which the model transcribes the loud first half alone, unless it is shown the other alone."""
    everywhere = {"speech": (SpeechRegion(offset_s, offset_s + 4.0),)}  # a detector of voices hears none in tones
    return SpeechPiece(np.concatenate([tone(LOUD, 2.0), tone(QUIET, 2.0)]), offset_s, **everywhere | about)


def test_speech_without_words_is_decoded_again_in_the_pieces_language(fake: FakeWhisper) -> None:
    fake.covered = 0.5
    heard = fake.transcribe([loud_then_quiet(10.0), piece(QUIET)])
    assert texts(heard) == ["크게 말합니다 quiet words", "quiet words"]
    assert (heard[0].language, heard[0].notes, heard[1].notes) == ("ko", (AGAIN,), ())
    words = [word for segment in heard[0].segments for word in segment.words]
    starts_s = [word.start_s for word in words]
    assert starts_s == sorted(starts_s)
    assert 11.9 <= words[2].start_s <= words[-1].end_s <= 14.0
    assert fake.calls_of("encode") == [2, 1]
    assert fake.calls_of("detect") == [2]  # a gap has its piece's language
    start = (*fake.tokens.start("ko"), fake.tokens.no_timestamps)
    assert fake.calls_of("generate")[1][2] == (start,)


def test_gaps_of_several_pieces_are_decoded_in_one_batch(fake: FakeWhisper) -> None:
    fake.covered = 0.5
    heard = fake.transcribe([loud_then_quiet() for _ in range(3)])
    assert texts(heard) == ["크게 말합니다 quiet words"] * 3
    assert fake.calls_of("encode") == [3, 3]


def test_a_piece_gets_the_same_answer_alone_and_in_a_batch(fake: FakeWhisper) -> None:
    fake.covered = 0.5
    pieces = [loud_then_quiet(), piece(MUMBLED), piece(QUIET, duration_s=4.0), piece(SILENT_ROOM), piece(LOUD)]
    together = fake.transcribe(pieces)
    assert together == [fake.transcribe([own])[0] for own in pieces]
    fake.max_batch = 2
    assert together == fake.transcribe(pieces)


@pytest.mark.parametrize("speech", [(), (SpeechRegion(0.0, 2.0),), (SpeechRegion(0.0, 2.0), SpeechRegion(3.2, 4.0))])
def test_where_nobody_speaks_nothing_is_decoded_again(fake: FakeWhisper, speech: tuple[SpeechRegion, ...]) -> None:
    fake.covered = 0.5
    [heard] = fake.transcribe([loud_then_quiet(speech=speech)])
    assert texts([heard]) == ["크게 말합니다" if speech else ""]
    assert fake.calls_of("encode") == [1]


def test_a_gap_of_digital_silence_is_not_shown_to_the_model(fake: FakeWhisper) -> None:
    fake.covered = 0.1
    samples = np.pad(tone(LOUD, 1.0), (0, 9 * 16_000))
    fake.transcribe([SpeechPiece(samples)])
    assert fake.calls_of("encode") == [1]


def test_a_doubtful_second_answer_is_not_taken(fake: FakeWhisper) -> None:
    fake.covered = 0.5
    for temperature in (0.0, 0.4, 0.8):
        fake.answers[QUIET, temperature] = (" words that nobody said", -1.4, 0.0)
    [heard] = fake.transcribe([loud_then_quiet()])
    assert texts([heard]) == ["크게 말합니다"]
    assert heard.notes == ()


def test_second_answers_are_bounded_in_number(fake: FakeWhisper) -> None:
    fake.covered = 0.1  # every answer leaves most of its window
    fake.transcribe([piece(LOUD, duration_s=30.0)])
    assert len(fake.calls_of("encode")) <= 3


def test_a_prompt_that_is_too_long_is_shortened_and_said_so(fake: FakeWhisper) -> None:
    long = " ".join(f"word{number}" for number in range(500))
    heard = fake.transcribe([piece(LOUD, prompt=long), piece(LOUD, prompt="drums")])
    assert texts(heard) == ["크게 말합니다"] * 2
    assert heard[0].notes == ("the prompt was shortened to its last 223 tokens",)
    assert heard[1].notes == ()
    prompts = [prompt for _, _, group in fake.calls_of("generate") for prompt in group]
    longest = max(prompts, key=len)
    assert len(longest) + fake.tokens.room_after(longest) < fake.tokens.max_tokens
    assert fake.tokens.room_after(longest) > 200
