"""What the backends share, over a network that is made up: what it hears is told by how loud a piece is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.errors import GpuMemoryError, LanguageUnsupported, ProcessingError, TaskUnsupported
from serve_app.models.speech.batched_whisper import NOTHING_SAID, RETRIED, BatchedWhisper
from serve_app.models.speech.decoding_rules import Hypothesis
from serve_app.models.speech.spoken_words import TokenTimes
from serve_app.models.speech.whisper import BackendName, SpeechPiece
from serve_app.models.speech.whisper_checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper_options import WhisperOptions
from serve_app.results import SpeechTask

QUIET, LOUD, MUMBLED, SILENT_ROOM = 0.01, 0.1, 0.3, 0.6  # amplitudes
WORDS = {QUIET: " quiet words", LOUD: " 크게 말합니다", MUMBLED: " mumbled", SILENT_ROOM: " thank you"}
LANGUAGES = {QUIET: "en", LOUD: "ko", MUMBLED: "en", SILENT_ROOM: "en"}


class FakeWhisper(BatchedWhisper[list[float]]):
    """Its encoding is the amplitude of each piece."""

    name = BackendName.FASTER_WHISPER

    def __init__(self, checkpoint: WhisperCheckpoint, *, max_batch: int = 8, most_pieces: int = 99) -> None:
        super().__init__(
            checkpoint, WhisperOptions(cache_dir=Path("unused"), batch_size=max_batch), number_format="float32"
        )
        self.most_pieces = most_pieces
        self.calls: list[tuple[str, object]] = []
        self.freed = 0
        self.amplitudes: list[float] = []

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

    def _take(self, encoded: list[float], rows: Sequence[int]) -> list[float]:
        return [encoded[row] for row in rows]

    def _detect_languages(self, encoded: list[float]) -> list[str]:
        self.calls.append(("detect", len(encoded)))
        return [LANGUAGES[amplitude] for amplitude in encoded]

    def _generate(self, encoded: list[float], prompts: Sequence[Sequence[int]], beam_size: int) -> list[Hypothesis]:
        self.calls.append(("generate", (beam_size, tuple(map(tuple, prompts)))))
        assert len({len(prompt) for prompt in prompts}) == 1
        answers = []
        for amplitude in encoded:
            doubtful = amplitude in (MUMBLED, SILENT_ROOM) and beam_size == 1
            begin = self.tokens.timestamp_begin
            text = self.tokens.previous(WORDS[amplitude] + (" greedily" if doubtful else ""))[1:]
            answers.append(
                Hypothesis(
                    (begin, *text, begin + 40), -1.5 if doubtful else -0.1, 0.9 if amplitude == SILENT_ROOM else 0.0
                )
            )
        return answers

    def _align(
        self, encoded: list[float], start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        self.calls.append(("align", (tuple(start), len(texts))))
        assert len(encoded) == len(texts) == len(num_frames)
        return [
            TokenTimes(np.linspace(0, frames / 100, len(text) + 1).tolist(), [0.5] * len(text))
            for text, frames in zip(texts, num_frames, strict=True)
        ]

    def _free_memory(self) -> None:
        self.freed += 1


def tone(amplitude: float, duration_s: float = 1.0) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * 1000 * np.arange(round(duration_s * 16_000)) / 16_000)).astype(np.float32)


def piece(
    amplitude: float,
    language: str = "auto",
    *,
    offset_s: float = 0.0,
    prompt: str | None = None,
    task: SpeechTask = SpeechTask.TRANSCRIBE,
) -> SpeechPiece:
    return SpeechPiece(tone(amplitude), offset_s, language, prompt, task)


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
    [(_, prompts)] = fake.calls_of("generate")
    assert prompts == (tuple(fake.tokens.start("ko")), tuple(fake.tokens.start("fr")))


def test_one_batch_may_hold_transcripts_and_translations(fake: FakeWhisper) -> None:
    translate = SpeechTask.TRANSLATE
    heard = fake.transcribe([piece(LOUD), piece(QUIET, "ja", task=translate), piece(LOUD, task=translate)])
    assert [transcript.language for transcript in heard] == ["ko", "ja", "ko"]
    [(_, prompts)] = fake.calls_of("generate")
    begun = [fake.tokens.start("ko"), fake.tokens.start("ja", translate), fake.tokens.start("ko", translate)]
    assert prompts == tuple(map(tuple, begun))
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
    prompted = fake.calls_of("generate")[-1][1]
    assert prompted[0] == (*fake.tokens.previous("drums"), *fake.tokens.start("ko"))
    assert prompted[1] == (*fake.tokens.previous("cups"), *fake.tokens.start("ko"))


def test_doubtful_answers_alone_are_decoded_again_and_said_so(fake: FakeWhisper) -> None:
    heard = fake.transcribe([piece(QUIET), piece(MUMBLED), piece(LOUD)])
    assert texts(heard) == ["quiet words", "mumbled", "크게 말합니다"]
    assert [transcript.notes for transcript in heard] == [(), (RETRIED,), ()]
    assert fake.calls_of("encode") == [3]
    [first, second] = fake.calls_of("generate")
    assert (first[0], len(first[1]), second[0], len(second[1])) == (1, 3, 5, 1)


def test_a_doubtful_answer_to_what_is_no_speech_is_silence(fake: FakeWhisper) -> None:
    [heard] = fake.transcribe([piece(SILENT_ROOM)])
    assert heard.segments == ()
    assert heard.language == "en"
    assert len(fake.calls_of("generate")) == 1
    assert fake.calls_of("align") == []


def test_what_can_hold_no_word_is_not_shown_to_the_model(fake: FakeWhisper) -> None:
    nothing = [np.zeros(0), np.zeros(16_000), tone(LOUD, 0.09), np.full(16_000, np.nan)]
    heard = fake.transcribe([SpeechPiece(samples.astype(np.float32)) for samples in nothing])
    assert [(transcript.segments, transcript.language) for transcript in heard] == [((), NOTHING_SAID)] * 4
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
    with pytest.raises(GpuMemoryError, match="while transcribing 1 pieces with faster-whisper"):
        fake.transcribe([piece(LOUD), piece(QUIET)])
    fake.most_pieces = 99
    assert texts(fake.transcribe([piece(LOUD)])) == ["크게 말합니다"]  # still usable


def test_any_other_failure_of_the_library_is_a_processing_error(
    fake: FakeWhisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(fake, "_generate", fail)
    with pytest.raises(ProcessingError, match=r"Transcribing 2 pieces with faster-whisper failed.*illegal instruction"):
        fake.transcribe([piece(LOUD), piece(QUIET)])


def test_stops_between_batches(fake: FakeWhisper) -> None:
    fake.max_batch = 1
    answers = iter([False, False, True])
    with pytest.raises(ProcessingError, match="stopped, as its caller asked"):
        fake.transcribe([piece(LOUD)] * 5, should_stop=lambda: next(answers))
    assert fake.calls_of("encode") == [1, 1]


def test_one_language_needs_no_detection(checkpoint: WhisperCheckpoint, fake: FakeWhisper) -> None:
    fake.languages = ("ko",)
    assert fake.transcribe([piece(LOUD)])[0].language == "ko"
    assert fake.calls_of("detect") == []
