"""`ForcedAligner`: times words by the letters that a CTC model recognises.

It follows whisperx (Bain et al. 2023) and uses its models, but not its loop: `whisperx.align` fetches NLTK's sentence
splitter from the net, cuts segments again and returns other words. Here the model takes a piece as a whole, every word
stays as it was, and punctuation has no symbol (in whisperx it may stand for any sound).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from whisperx.alignment import LANGUAGES_WITHOUT_SPACES

from serve_app.analysis.attribution import fit_words
from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.devices import torch_device
from serve_app.models.speech.alignment.ctc import Alphabet, symbol_frames
from serve_app.models.speech.alignment.model import AlignModel, load_align_model
from serve_app.models.speech.backends import MAX_PIECE_S
from serve_app.models.speech.pieces import with_margins
from serve_app.results import SAMPLE_RATE_HZ, Segment, SpeechRegion, Timing, Transcript, Word
from serve_app.sentences import Sentence

# Recognisers cut segments a little short: words are looked for this far into the silence around them.
MARGIN_S = 0.2
# After a model failed to load, it is tried again no sooner than this.
RETRY_LOADING_S = 60.0


class ForcedAligner:
    """Sets the times of words. Loads a language's model on first use and keeps it. For one thread at a time."""

    def __init__(
        self,
        models: Mapping[str, str],
        *,
        device: str = "auto",
        num_threads: int | None = None,
        cache_dir: Path,
        hf_token: str | None = None,
    ) -> None:
        """Remember the models; none is loaded yet.

        Args:
            models: align model of each language, by two-letter code; see `alignment.model.load_align_model`.
            device: as in `models.devices`.
            num_threads: threads of torch in this process; None leaves them as they are.

        Raises:
            ModelLoadingError: the device does not exist.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._specs = dict(models)
        self._device = torch_device(device)
        self._cache_dir = cache_dir
        self._hf_token = hf_token
        self._models: dict[str, AlignModel] = {}
        self._failures: dict[str, tuple[float, ModelLoadingError]] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that have a model."""
        return tuple(self._specs)

    def align(
        self,
        samples: NDArray[np.float32],
        transcript: Transcript,
        offset_s: float = 0.0,
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Transcript:
        """Return the transcript with new times; texts, words and their order stay.

        All words then have times, in order and inside the piece. A word without a letter of the model's alphabet
        (digits) is placed between its neighbours and marked as interpolated. A segment begins and ends with its words.
        A segment with more letters than the model has frames keeps the recogniser's times, and a note reports it. In a
        language without a model the transcript is returned unchanged.

        Args:
            samples: (n,) of the piece, at 16 kHz, at most 30 s.
            transcript: of that piece alone.
            offset_s: where the piece begins in the file.
            should_stop: called before the model runs and before each segment; True ends the call.

        Raises:
            ModelLoadingError: the language's model can't be loaded; the next attempt is a minute later.
            GpuMemoryError: the device has no memory left, or too little for the model.
            ProcessingError: the model failed, the piece is too long, or `should_stop` returned True.
        """
        duration_s = len(samples) / SAMPLE_RATE_HZ
        if transcript.language not in self._specs or not transcript.segments or not duration_s:
            return transcript
        if duration_s > MAX_PIECE_S + 1.0:
            raise ProcessingError(
                Sentence(
                    "a piece to be aligned has at most {max_piece_s:.0f} s, this one {duration_s:.1f} s",
                    max_piece_s=MAX_PIECE_S,
                    duration_s=duration_s,
                )
            )
        model = self._model(transcript.language)
        has_spaces = transcript.language not in LANGUAGES_WITHOUT_SPACES
        _end_if(should_stop)
        log_probabilities = model.log_probabilities(samples)
        # within the piece: a recogniser's last frame may reach beyond it
        spans = [
            SpeechRegion(*(min(max(edge_s - offset_s, 0.0), duration_s) for edge_s in (segment.start_s, segment.end_s)))
            for segment in transcript.segments
        ]
        segments, num_kept = [], 0
        for segment, room in zip(transcript.segments, with_margins(spans, duration_s, MARGIN_S), strict=True):
            _end_if(should_stop)
            words = segment.words or _words_of(segment.text, has_spaces)
            if not words:
                segments.append(segment)
                continue
            symbols, owners = _spell(segment.text, words, model.alphabet, has_spaces)
            known = {owner for owner, symbol in zip(owners, symbols, strict=True) if symbol is not None}
            first, last = round(room.start_s / model.stride_s), round(room.end_s / model.stride_s)
            scores = log_probabilities[first:last]
            frames = symbol_frames(scores, symbols, model.alphabet.blank_id) if known else None
            bounds = (offset_s + room.start_s, offset_s + room.end_s)
            if frames is None:
                num_kept += 1
                segments.append(_fitted(segment, words, *bounds))
                continue
            times_s = np.full((len(words), 2), np.nan)
            for owner, (begin, end) in zip(owners, frames.tolist(), strict=True):
                if owner >= 0:
                    times_s[owner] = np.fmin(times_s[owner, 0], begin), end
            times_s = offset_s + first * model.stride_s + times_s * model.stride_s
            timed = [
                replace(
                    word,
                    start_s=float(start_s),
                    end_s=float(end_s),
                    timing=Timing.ALIGNED if index in known else Timing.INTERPOLATED,
                )
                for index, (word, (start_s, end_s)) in enumerate(zip(words, times_s, strict=True))
            ]
            placed = _fitted(segment, timed, *bounds)
            segments.append(replace(placed, start_s=placed.words[0].start_s, end_s=placed.words[-1].end_s))
        notes = transcript.notes
        if num_kept:
            notes = (
                *notes,
                Sentence("words of {num} segments could not be aligned and keep the recogniser's times", num=num_kept),
            )
        return replace(transcript, segments=tuple(segments), notes=notes)

    def _model(self, language: str) -> AlignModel:
        if language in self._models:
            return self._models[language]
        failed_at, failure = self._failures.get(language, (-math.inf, None))
        if failure is not None and time.monotonic() < failed_at + RETRY_LOADING_S:
            raise ModelLoadingError(failure.detail)
        try:
            model = load_align_model(
                self._specs[language], language, device=self._device, cache_dir=self._cache_dir, hf_token=self._hf_token
            )
        except ModelLoadingError as error:
            self._failures[language] = (time.monotonic(), error)
            raise
        self._models[language] = model
        return model


def _spell(
    text: str, words: Sequence[Word], alphabet: Alphabet, has_spaces: bool
) -> tuple[list[int | None], list[int]]:
    """Return a segment's symbols, None for each that the alphabet lacks; and the index of each one's word, -1 between
    words.
    """
    symbols: list[int | None] = []
    owners: list[int] = []
    position = 0
    for index, word in enumerate(words):
        spelled = alphabet.spell(word.word)
        found = text.find(word.word.strip(), position)
        # recognisers cut "well-known" in two: there is no gap in between
        is_apart = found < 0 or found > position
        position = position if found < 0 else found + len(word.word.strip())
        if not spelled:
            continue
        if symbols and is_apart and has_spaces and alphabet.delimiter_id is not None:
            symbols.append(alphabet.delimiter_id)
            owners.append(-1)
        symbols += spelled
        owners += [index] * len(spelled)
    return symbols, owners


def _fitted(segment: Segment, words: Sequence[Word], start_s: float, end_s: float) -> Segment:
    """Return the segment with every word timed, in order and within these bounds."""
    placed = fit_words(Segment(start_s, end_s, segment.text, tuple(words))).words
    return replace(
        segment,
        start_s=min(max(segment.start_s, start_s), placed[0].start_s),
        end_s=max(min(segment.end_s, end_s), placed[-1].end_s),
        words=placed,
    )


def _words_of(text: str, has_spaces: bool) -> tuple[Word, ...]:
    """Return the words of a text, without times; its characters in a language without spaces."""
    tokens = text.split() if has_spaces else [character for character in text if not character.isspace()]
    return tuple(Word(token, math.nan, math.nan) for token in tokens)


def _end_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise ProcessingError(Sentence("alignment was stopped, as its caller asked"))
