"""What the three Whisper backends share: everything but the library that runs the network.

A batch of pieces is encoded once, padded to 30 s, as every Whisper was trained. Languages are told from that encoding,
all pieces are decoded side by side, the few doubtful answers are decoded again, and words are aligned, all from it.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import GpuMemoryError, LanguageUnsupported, ProcessingError, TaskUnsupported
from serve_app.models.gpu_memory import gpu_errors
from serve_app.models.speech.decoding_rules import DecodingRules, Hypothesis
from serve_app.models.speech.log_mel import HOP, LogMel
from serve_app.models.speech.spoken_words import TokenTimes, split_spans, timed_segments
from serve_app.models.speech.whisper import MAX_PIECE_S, SAMPLE_RATE_HZ, BackendName, SpeechPiece
from serve_app.models.speech.whisper_checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper_options import WhisperOptions
from serve_app.models.speech.whisper_tokens import WhisperTokens
from serve_app.results import Segment, SpeechTask, Transcript

AUTO = "auto"
NOTHING_SAID = "und"  # language of a piece in which there is nothing to hear
MIN_PIECE_S = 0.1  # no word is shorter
MAX_INITIAL_TIMESTAMP_INDEX = 50  # openai-whisper: the first segment begins within a second
RETRIED = "doubtful parts were decoded a second time, with a wider beam"

_SILENT_PEAK = 1e-5  # -100 dBFS; 16 bits end at -90

Encoded = TypeVar("Encoded")


class BatchedWhisper(ABC, Generic[Encoded]):
    """A loaded Whisper, as `serve_app.models.speech.whisper.WhisperBackend` describes it.

    Args:
        checkpoint: what was loaded.
        options: beam size, batch size.
        number_format: that the network computes in; ends `model_version`.
        rules: when an answer is doubtful.
    """

    name: BackendName

    def __init__(
        self,
        checkpoint: WhisperCheckpoint,
        options: WhisperOptions,
        *,
        number_format: str,
        rules: DecodingRules = DecodingRules(),  # noqa: B008 - frozen
    ) -> None:
        self.model_version = f"{self.name}:{checkpoint.name}:{number_format}"
        self.languages = checkpoint.languages
        self.tokens = WhisperTokens(checkpoint)
        self.rules = rules
        self.max_batch = options.batch_size
        self._detects_languages = bool(self.tokens.language_ids)
        self._beam_size = options.beam_size
        self._mel = LogMel(checkpoint.num_mel_bins)
        self._lock = threading.Lock()

    @abstractmethod
    def _encode(self, features: NDArray[np.float32]) -> Encoded:
        """Return what the decoder attends to; features are (pieces, mels, 3000)."""

    @abstractmethod
    def _take(self, encoded: Encoded, rows: Sequence[int]) -> Encoded:
        """Return the encoding of some pieces of the batch."""

    @abstractmethod
    def _detect_languages(self, encoded: Encoded) -> list[str]:
        """Return the likeliest of `languages` for each piece."""

    @abstractmethod
    def _generate(self, encoded: Encoded, prompts: Sequence[Sequence[int]], beam_size: int) -> list[Hypothesis]:
        """Return an answer with timestamps for each piece; prompts are equally long. Greedy where `beam_size` is 1."""

    @abstractmethod
    def _align(
        self, encoded: Encoded, start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        """Return the times of each piece's text tokens, none of them empty.

        Args:
            encoded: the pieces.
            start: what each transcript begins with.
            texts: text tokens of each piece.
            num_frames: mel frames of 10 ms that each piece really has.
        """

    def _free_memory(self) -> None:
        """Give unused memory of the GPU back."""

    def check_language(self, language: str) -> None:
        """Raise LanguageUnsupported unless the checkpoint was made for the language, or it is `auto`."""
        if language != AUTO and language not in self.languages:
            known = ", ".join(self.languages[:12]) + (", …" if len(self.languages) > 12 else "")
            raise LanguageUnsupported(
                f"{self.model_version} does not know the language {language!r}; it was made for: {known}"
            )

    def check_task(self, task: SpeechTask) -> None:
        """Raise TaskUnsupported where a translation is wanted that the checkpoint was not trained for."""
        if task is SpeechTask.TRANSLATE and self.tokens.no_translation is not None:
            raise TaskUnsupported(
                f"{self.model_version} can't translate: {self.tokens.no_translation}; name a size that can in "
                "whisper.models: whisper-base, -small, -medium, -large-v2 or -large-v3"
            )

    def transcribe(
        self, pieces: Sequence[SpeechPiece], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[Transcript]:
        """Return one transcript for each piece, in their order; each depends on its own piece alone.

        A piece that is silent, or shorter than 0.1 s, is not shown to the model.

        Args:
            pieces: any number; memory is bounded by batches.
            should_stop: asked before every batch; True ends the call.

        Raises:
            GpuMemoryError: not even one piece finds room on the GPU.
            LanguageUnsupported: a piece's language is not one of the checkpoint's.
            TaskUnsupported: a piece is to be translated, which the checkpoint can't.
            ProcessingError: a piece is longer than 30 s, the model failed, or `should_stop` answered True.
        """
        clean = []
        for piece in pieces:
            self.check_language(piece.language)
            self.check_task(piece.task)
            clean.append(_clean(piece.samples))
        transcripts: list[Transcript | None] = [None] * len(pieces)
        audible = []
        for index, (piece, samples) in enumerate(zip(pieces, clean, strict=True)):
            if len(samples) < MIN_PIECE_S * SAMPLE_RATE_HZ or np.abs(samples).max() < _SILENT_PEAK:
                language = NOTHING_SAID if piece.language == AUTO else piece.language
                transcripts[index] = Transcript((), language, self.model_version)
            else:
                audible.append(index)
        for batch in self._batches(audible, [self.tokens.previous(piece.prompt) for piece in pieces]):
            heard = self._hear_or_halve([pieces[i] for i in batch], [clean[i] for i in batch], should_stop)
            for index, transcript in zip(batch, heard, strict=True):
                transcripts[index] = transcript
        return [transcript for transcript in transcripts if transcript is not None]

    def _batches(self, indices: Sequence[int], prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Yield what may be decoded side by side: the libraries want prompts of one length."""
        by_length = sorted(indices, key=lambda index: len(prompts[index]))
        for _, alike in groupby(by_length, key=lambda index: len(prompts[index])):
            together = list(alike)
            for first in range(0, len(together), self.max_batch):
                yield together[first : first + self.max_batch]

    def _hear_or_halve(
        self,
        pieces: Sequence[SpeechPiece],
        samples: Sequence[NDArray[np.float32]],
        should_stop: Callable[[], bool],
    ) -> list[Transcript]:
        """Transcribe a batch; where the GPU's memory does not suffice for it, one half after the other."""
        if should_stop():
            raise ProcessingError("recognition was stopped, as its caller asked")
        try:
            with self._lock, gpu_errors(f"transcribing {len(pieces)} pieces with {self.name}"):
                return self._hear(pieces, samples)
        except GpuMemoryError:
            if len(pieces) == 1:
                raise
        # outside of the handler: an error keeps its frames alive, and they keep the batch on the GPU
        self._free_memory()
        half = len(pieces) // 2
        return [
            *self._hear_or_halve(pieces[:half], samples[:half], should_stop),
            *self._hear_or_halve(pieces[half:], samples[half:], should_stop),
        ]

    def _hear(self, pieces: Sequence[SpeechPiece], samples: Sequence[NDArray[np.float32]]) -> list[Transcript]:
        encoded = self._encode(self._mel.batch(samples))
        languages = self._languages_of(pieces, encoded)
        prompts = [
            [*self.tokens.previous(piece.prompt), *self.tokens.start(language, piece.task)]
            for piece, language in zip(pieces, languages, strict=True)
        ]
        answers = self._generate(encoded, prompts, self._beam_size)
        retried = self._second_look(encoded, prompts, answers)
        segments = self._segments(pieces, samples, encoded, languages, answers)
        return [
            Transcript(own, language, self.model_version, (RETRIED,) if index in retried else ())
            for index, (own, language) in enumerate(zip(segments, languages, strict=True))
        ]

    def _languages_of(self, pieces: Sequence[SpeechPiece], encoded: Encoded) -> list[str]:
        if all(piece.language != AUTO for piece in pieces):
            return [piece.language for piece in pieces]
        if not self._detects_languages or len(self.languages) == 1:
            return [self.languages[0]] * len(pieces)
        detected = self._detect_languages(encoded)
        return [own if piece.language == AUTO else piece.language for piece, own in zip(pieces, detected, strict=True)]

    def _second_look(
        self, encoded: Encoded, prompts: Sequence[Sequence[int]], answers: list[Hypothesis]
    ) -> frozenset[int]:
        """Replace doubtful answers by better ones of a wider beam; return which were looked at."""
        rules = self.rules
        texts = [self.tokens.decode(answer.tokens) for answer in answers]
        doubtful = [
            index
            for index, (answer, text) in enumerate(zip(answers, texts, strict=True))
            if rules.needs_second_look(answer, text)
        ]
        if not doubtful or rules.retry_beam_size <= self._beam_size:
            return frozenset()
        again = self._generate(
            self._take(encoded, doubtful), [prompts[index] for index in doubtful], rules.retry_beam_size
        )
        for index, second in zip(doubtful, again, strict=True):
            if rules.prefers_second(answers[index], texts[index], second, self.tokens.decode(second.tokens)):
                answers[index] = second
        return frozenset(doubtful)

    def _segments(
        self,
        pieces: Sequence[SpeechPiece],
        samples: Sequence[NDArray[np.float32]],
        encoded: Encoded,
        languages: Sequence[str],
        answers: Sequence[Hypothesis],
    ) -> list[tuple[Segment, ...]]:
        durations_s = [len(own) / SAMPLE_RATE_HZ for own in samples]
        spans = [
            []
            if self.rules.is_silence(answer)
            else split_spans(
                answer.tokens,
                timestamp_begin=self.tokens.timestamp_begin,
                end_of_text=self.tokens.end_of_text,
                duration_s=duration_s,
            )
            for answer, duration_s in zip(answers, durations_s, strict=True)
        ]
        texts = [tuple(token for span in own for token in span.tokens) for own in spans]
        segments: list[tuple[Segment, ...]] = [()] * len(pieces)
        starts = [(language, piece.task) for language, piece in zip(languages, pieces, strict=True)]
        speaking = sorted((index for index, text in enumerate(texts) if text), key=lambda index: starts[index])
        for (language, task), group in groupby(speaking, key=lambda index: starts[index]):
            rows = list(group)
            written = "en" if task is SpeechTask.TRANSLATE else language
            times = self._align(
                encoded if len(rows) == len(pieces) else self._take(encoded, rows),
                self.tokens.start(language, task),
                [texts[row] for row in rows],
                [max(2, len(samples[row]) // HOP) for row in rows],
            )
            for row, own_times in zip(rows, times, strict=True):
                segments[row] = timed_segments(
                    spans[row],
                    own_times,
                    words_of=partial(self.tokens.words, language=written),
                    text_of=self.tokens.decode,
                    duration_s=durations_s[row],
                    offset_s=pieces[row].offset_s,
                    avg_logprob=answers[row].avg_logprob,
                    no_speech_prob=answers[row].no_speech_prob,
                )
        return segments


def _clean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return finite samples, copied only where something is wrong with them."""
    if samples.ndim != 1:
        raise ProcessingError(f"expected mono samples of shape (n,), got {samples.shape}")
    if len(samples) > MAX_PIECE_S * SAMPLE_RATE_HZ + HOP:  # a frame more: cutting rounds to samples
        raise ProcessingError(
            f"a piece of {len(samples) / SAMPLE_RATE_HZ:.2f} s is longer than Whisper's window of 30 s; "
            "cut it with serve_app.models.speech.pieces.recognizer_pieces"
        )
    samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return samples
