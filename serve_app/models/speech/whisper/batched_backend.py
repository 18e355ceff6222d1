"""`BatchedWhisper`: the common part of the three Whisper backends; each adds the library that runs the network.

A batch of windows is padded to 30 s and encoded once. From that encoding, languages are detected, all windows are
decoded together, doubtful answers are decoded again, and words are aligned.

Windows are decoded without timestamps: with them, Whisper often ends a window early, so that a piece that is decoded
once loses whole sentences (docs/models/whisper.md). Speech that still has no words (`coverage`) is decoded again in
windows of its own, in the next batch.
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
from serve_app.models.speech.backends import MAX_PIECE_S, BackendName
from serve_app.models.speech.whisper import transcript_draft as draft_notes
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.decoding_rules import DecodingRules, Hypothesis
from serve_app.models.speech.whisper.log_mel import HOP, LogMel
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.spoken_words import SpokenWord, TokenTimes, timed_words
from serve_app.models.speech.whisper.tokens import WhisperTokens
from serve_app.models.speech.whisper.transcript_draft import Draft, Window, WindowWords
from serve_app.results import AUTO, SAMPLE_RATE_HZ, UNDETERMINED, SpeechTask, Transcript
from serve_app.sentences import Sentence

MIN_PIECE_S = 0.1  # no word is shorter
# A piece may have another language than the file (a guest's) if that is at least this probable in this much speech.
_SURE_OF_LANGUAGE = 0.9
_LEAST_SPEECH_OF_LANGUAGE_S = 3.0
_MAX_PASSES = 3  # the first, and two for speech without words
_SILENT_PEAK = 1e-5  # -100 dBFS; 16 bits end at -90

Encoded = TypeVar("Encoded")


class BatchedWhisper(ABC, Generic[Encoded]):
    """A loaded Whisper. Calls from several threads wait for each other.

    Attributes:
        name: which backend it is.
        model_version: "<backend>:<model>:<number format of the network>".
        usual_beam_size: used where the options have none.
    """

    name: BackendName
    usual_beam_size = 1

    def __init__(self, checkpoint: WhisperCheckpoint, options: WhisperOptions, *, number_format: str) -> None:
        self.model_version = f"{self.name}:{checkpoint.name}:{number_format}"
        self.languages = checkpoint.languages
        self.tokens = WhisperTokens(checkpoint)
        self.rules = DecodingRules()
        self.max_batch = options.batch_size
        self._has_language_tokens = bool(self.tokens.language_ids)
        self._beam_size = options.beam_size or self.usual_beam_size
        self._mel = LogMel(checkpoint.config["num_mel_bins"])
        self._lock = threading.Lock()

    @abstractmethod
    def _encode(self, features: NDArray[np.float32]) -> Encoded:
        """Return the encoder's output for features of (windows, mels, 3000)."""

    @abstractmethod
    def _take(self, encoded: Encoded, rows: Sequence[int]) -> Encoded:
        """Return the encoding of some windows of the batch."""

    @abstractmethod
    def _language_probabilities(self, encoded: Encoded) -> NDArray[np.float32]:
        """Return (windows, languages) in the order of `tokens.language_ids`; rows add up to 1."""

    @abstractmethod
    def _generate(
        self, encoded: Encoded, prompts: Sequence[Sequence[int]], beam_size: int, temperature: float
    ) -> list[Hypothesis]:
        """Return an answer without timestamps for each window; sample from a fixed seed if there is a temperature.

        Prompts are equally long and end with `no_timestamps`. Sampling is for a single window.
        """

    @abstractmethod
    def _align(
        self, encoded: Encoded, start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        """Return the times of each window's text tokens, after the tokens `start`; no text is empty.

        `num_frames` counts the mel frames of 10 ms in each window, without padding.
        """

    def _free_memory(self) -> None:
        """Free unused memory of the GPU."""

    @property
    def can_detect_languages(self) -> bool:
        """Whether there is more than one language to choose from."""
        return self._has_language_tokens and len(self.languages) > 1

    def check_language(self, language: str) -> None:
        """Raise LanguageUnsupported unless the checkpoint was made for the language, or it is `auto`."""
        if language != AUTO and language not in self.languages:
            known = ", ".join(self.languages[:12]) + (", …" if len(self.languages) > 12 else "")
            raise LanguageUnsupported(
                Sentence(
                    "{model_version} does not know the language {language}; it was made for: {known}",
                    model_version=self.model_version,
                    language=repr(language),
                    known=known,
                )
            )

    def check_task(self, task: SpeechTask) -> None:
        """Raise TaskUnsupported where a translation is wanted that the checkpoint was not trained for."""
        if task is SpeechTask.TRANSLATE and self.tokens.no_translation is not None:
            raise TaskUnsupported(
                Sentence(
                    "{model_version} can't translate: {no_translation}; name a size that can in whisper.models: "
                    "whisper-base, -small, -medium, -large-v2 or -large-v3",
                    model_version=self.model_version,
                    no_translation=self.tokens.no_translation,
                )
            )

    def detect_languages(
        self, pieces: Sequence[SpeechPiece], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[dict[str, float]]:
        """Return the probability of each language for each piece, the likeliest first; errors as `transcribe`."""
        samples = [_clean(piece.samples) for piece in pieces]
        if not self.can_detect_languages:
            return [{self.languages[0]: 1.0} for _ in pieces]
        found: list[dict[str, float]] = []
        for first in range(0, len(samples), self.max_batch):
            if should_stop():
                raise ProcessingError(Sentence("language detection was stopped, as its caller asked"))
            part = [np.pad(own, (0, max(0, 400 - len(own)))) for own in samples[first : first + self.max_batch]]
            with (
                self._lock,
                gpu_errors(
                    Sentence("detecting the language of a batch of {num} with {name}", num=len(part), name=self.name)
                ),
            ):
                rows = self._known_probabilities(self._encode(self._mel.batch(part)))
            found += [dict(sorted(row.items(), key=lambda item: -item[1])) for row in rows]
        return found

    def transcribe(
        self, pieces: Sequence[SpeechPiece], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[Transcript]:
        """Return one transcript for each piece, in their order; each depends on its own piece alone.

        Every segment has words with times and confidences. Decoding is deterministic. A piece that is silent, or
        shorter than 0.1 s, is not decoded.

        Args:
            pieces: any number; memory is bounded by batches.
            should_stop: called before every batch; True ends the call.

        Raises:
            GpuMemoryError: the GPU has too little memory even for one piece; the model stays usable.
            LanguageUnsupported: a piece's language is not one of the checkpoint's.
            TaskUnsupported: a piece must be translated, and the checkpoint can't.
            ProcessingError: a piece is longer than 30 s, the model failed, or `should_stop` returned True.
        """
        drafts = []
        for piece in pieces:
            self.check_language(piece.language)
            self.check_task(piece.task)
            drafts.append(Draft(piece, _clean(piece.samples)))
        windows = [Window.whole(draft) for draft in drafts if _is_audible(draft.samples)]
        for number in range(_MAX_PASSES):
            for batch in self._batches(windows):
                for window, found in zip(batch, self._decoded(batch, should_stop), strict=True):
                    window.draft.add(window, found)
            if number + 1 < _MAX_PASSES:
                windows = [window for draft in drafts for window in draft.gaps() if _is_audible(window.samples)]
        return [self._transcript(draft) for draft in drafts]

    def _transcript(self, draft: Draft) -> Transcript:
        all_notes = list(draft.notes)
        language = draft.known_language or UNDETERMINED
        if draft.piece.language == AUTO and draft.language is not None and not self.can_detect_languages:
            language = UNDETERMINED
            all_notes.append(
                Sentence(
                    "the language was not detected: {model_version} transcribes {language} alone, and took the speech "
                    "for it",
                    model_version=self.model_version,
                    language=repr(self.languages[0]),
                )
            )
        if self.tokens.is_shortened(draft.piece.prompt):
            all_notes.append(
                Sentence("the prompt was shortened to its last {num} tokens", num=self.tokens.max_prompt_tokens)
            )
        return Transcript(draft.segments(), language, self.model_version, tuple(dict.fromkeys(all_notes)))

    def _batches(self, windows: Sequence[Window]) -> Iterator[list[Window]]:
        """Yield windows that may be decoded together: the libraries need prompts of one length."""

        def length(window: Window) -> int:
            return len(self.tokens.previous(window.draft.piece.prompt))

        for _, alike in groupby(sorted(windows, key=length), key=length):
            together = list(alike)
            for first in range(0, len(together), self.max_batch):
                yield together[first : first + self.max_batch]

    def _decoded(self, windows: Sequence[Window], should_stop: Callable[[], bool]) -> list[WindowWords]:
        """Decode a batch, or one half after the other where the GPU has too little memory."""
        if should_stop():
            raise ProcessingError(Sentence("recognition was stopped, as its caller asked"))
        try:
            with (
                self._lock,
                gpu_errors(Sentence("transcribing a batch of {num} with {name}", num=len(windows), name=self.name)),
            ):
                return self._decode_windows(windows)
        except GpuMemoryError:
            if len(windows) == 1:
                raise
        # outside the handler, where the error no longer keeps the batch on the GPU
        self._free_memory()
        half = len(windows) // 2
        return [*self._decoded(windows[:half], should_stop), *self._decoded(windows[half:], should_stop)]

    def _decode_windows(self, windows: Sequence[Window]) -> list[WindowWords]:
        encoded = self._encode(self._mel.batch([window.samples for window in windows]))
        languages = self._languages_of(windows, encoded)
        prompts = [
            [
                *self.tokens.previous(window.draft.piece.prompt),
                *self.tokens.start(language, window.draft.piece.task),
                self.tokens.no_timestamps,
            ]
            for window, language in zip(windows, languages, strict=True)
        ]
        answers = self._generate(encoded, prompts, self._beam_size, 0.0)
        notes = self._retry(encoded, prompts, answers)
        words = self._words(windows, encoded, languages, answers)
        return [
            WindowWords(
                own,
                language,
                answer.avg_logprob,
                answer.no_speech_prob,
                not self._is_doubtful(answer),
                tuple(own_notes),
            )
            for answer, language, own, own_notes in zip(answers, languages, words, notes, strict=True)
        ]

    def _languages_of(self, windows: Sequence[Window], encoded: Encoded) -> list[str]:
        known = [window.draft.known_language for window in windows]
        if all(known) or not self.can_detect_languages:
            return [language or self.languages[0] for language in known]
        detected = self._known_probabilities(encoded)
        return [
            language or _chosen(own, window) for language, own, window in zip(known, detected, windows, strict=True)
        ]

    def _known_probabilities(self, encoded: Encoded) -> list[dict[str, float]]:
        """Return the probability of each of `languages`, by window."""
        rows = self._language_probabilities(encoded)
        codes = list(self.tokens.language_ids)
        return [
            {code: float(value) for code, value in zip(codes, row, strict=True) if code in self.languages}
            for row in rows
        ]

    def _retry(self, encoded: Encoded, prompts: Sequence[Sequence[int]], answers: list[Hypothesis]) -> list[list[str]]:
        """Replace doubtful answers by better ones; return notes on each window."""
        notes: list[list[str]] = [[] for _ in answers]
        for attempt in self.rules.retries(self._beam_size):
            doubtful = [index for index, answer in enumerate(answers) if self._is_doubtful(answer)]
            # a sample depends on earlier draws: one window at a time
            num_rows = 1 if attempt.temperature else max(1, len(doubtful))
            for first in range(0, len(doubtful), num_rows):
                rows = doubtful[first : first + num_rows]
                found = self._generate(
                    self._take(encoded, rows), [prompts[row] for row in rows], attempt.beam_size, attempt.temperature
                )
                for index, again in zip(rows, found, strict=True):
                    notes[index] = [draft_notes.SAMPLED if attempt.temperature else draft_notes.RETRIED]
                    if self.rules.prefers_second(answers[index], self._text(answers[index]), again, self._text(again)):
                        answers[index] = again
        for index, answer in enumerate(answers):
            text = self._text(answer)
            if self.rules.is_silence(answer):
                note = draft_notes.NO_SPEECH
            elif self.rules.is_loop(text):
                note = draft_notes.LOOP
            elif self.rules.is_garbled(answer):
                note = draft_notes.GARBLED
            else:
                continue
            answers[index] = Hypothesis((), answer.avg_logprob, answer.no_speech_prob)
            if text.strip():
                notes[index].append(note)
        return notes

    def _text(self, answer: Hypothesis) -> str:
        return self.tokens.decode(answer.tokens)

    def _is_doubtful(self, answer: Hypothesis) -> bool:
        return self.rules.is_doubtful(answer, self._text(answer))

    def _words(
        self, windows: Sequence[Window], encoded: Encoded, languages: Sequence[str], answers: Sequence[Hypothesis]
    ) -> list[list[SpokenWord]]:
        # timestamps and control tokens lie above the end of text
        texts = [tuple(token for token in answer.tokens if token < self.tokens.end_of_text) for answer in answers]
        words: list[list[SpokenWord]] = [[] for _ in windows]
        starts = [(language, window.draft.piece.task) for language, window in zip(languages, windows, strict=True)]
        with_text = sorted((index for index, text in enumerate(texts) if text), key=lambda index: starts[index])
        for (language, task), group in groupby(with_text, key=lambda index: starts[index]):
            rows = list(group)
            written = "en" if task is SpeechTask.TRANSLATE else language
            times = self._align(
                encoded if len(rows) == len(windows) else self._take(encoded, rows),
                self.tokens.start(language, task),
                [texts[row] for row in rows],
                [max(2, len(windows[row].samples) // HOP) for row in rows],
            )
            for row, own_times in zip(rows, times, strict=True):
                words[row] = timed_words(
                    texts[row],
                    own_times,
                    words_of=partial(self.tokens.words, language=written),
                    speech=windows[row].speech,
                    duration_s=len(windows[row].samples) / SAMPLE_RATE_HZ,
                )
        return words


def _chosen(probabilities: dict[str, float], window: Window) -> str:
    """Return the window's own language if it is sure, else the file's."""
    best = max(probabilities, key=probabilities.__getitem__)
    likely = window.draft.piece.likely_language
    if likely not in probabilities:
        return best
    is_sure = probabilities[best] >= _SURE_OF_LANGUAGE and window.speech_s >= _LEAST_SPEECH_OF_LANGUAGE_S
    return best if is_sure else str(likely)


def _is_audible(samples: NDArray[np.float32]) -> bool:
    return len(samples) >= MIN_PIECE_S * SAMPLE_RATE_HZ and bool(np.abs(samples).max() >= _SILENT_PEAK)


def _clean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return finite samples, copied only where some are not."""
    if samples.ndim != 1:
        raise ProcessingError(Sentence("expected mono samples of shape (n,), got {shape}", shape=samples.shape))
    if len(samples) > MAX_PIECE_S * SAMPLE_RATE_HZ + HOP:  # a frame more: cutting rounds to samples
        raise ProcessingError(
            Sentence(
                "a piece of {num:.2f} s is longer than Whisper's window of 30 s; cut it with "
                "serve_app.models.speech.pieces.recognizer_pieces",
                num=len(samples) / SAMPLE_RATE_HZ,
            )
        )
    samples = samples.astype(np.float32, copy=False)
    return samples if np.isfinite(samples).all() else np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
