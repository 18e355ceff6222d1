"""`ForcedAligner`: times words by the letters that a CTC model recognises.

As whisperx does it (Bain et al. 2023), and with its models; the loop is ours, because `whisperx.align`
fetches NLTK's sentence splitter from the net, cuts segments anew and gives words back as other words. What differs:
the model hears a piece once, in whole, not segment by segment; a word stays the word that it was; what is not spoken
(punctuation) has no symbol, where whisperx lets it stand for any sound; and the search (see ctc_alignment).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from serve_app.models.speech.pieces import with_margins
from serve_app.models.speech.whisper.backend import MAX_PIECE_S
from serve_app.results import SAMPLE_RATE_HZ, Segment, SpeechRegion, Timing, Transcript, Word

# Recognisers cut segments a little short: words are looked for this far into the silence around them.
MARGIN_S = 0.2
# A model that could not be had is asked for again after this long, not for every piece of a file.
RETRY_LOADING_S = 60.0


class ForcedAligner:
    """Gives words the times at which their letters are heard.

    Models are loaded when their language first comes up, and kept. An instance is for one thread at a time.
    """

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
            models: align model of each language, by two-letter code; see `align_model.load_align_model`.
            device: as in `models.devices`.
            num_threads: threads that torch may use in this process; None leaves them as they are.

        Raises:
            ModelLoadingError: the device is not there.
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
        """Return the transcript with its words timed anew; texts, words and their order stay.

        Every word then has times, in order and inside the piece. A word of which no letter is in the model's alphabet
        (digits) is put between its neighbours and marked as interpolated. A segment begins and ends with its words.
        A segment that has more letters than the model hears sounds keeps the recogniser's times, and a note says so.
        In a language without a model the transcript comes back as it was.

        Args:
            samples: (n,) at 16 kHz: the piece of which the transcript is, at most 30 s.
            transcript: of that piece alone.
            offset_s: where the piece begins in the file.
            should_stop: asked before each segment; True ends the call.

        Raises:
            ModelLoadingError: the language's model can't be had; asked for again after a minute.
            GpuMemoryError: the device has no memory left, or too little for the model.
            ProcessingError: the model failed, the piece is too long, or `should_stop` answered True.
        """
        duration_s = len(samples) / SAMPLE_RATE_HZ
        if transcript.language not in self._specs or not transcript.segments or not duration_s:
            return transcript
        if duration_s > MAX_PIECE_S + 1.0:
            raise ProcessingError(f"a piece to be aligned has at most {MAX_PIECE_S:.0f} s, this one {duration_s:.1f} s")
        model = self._model(transcript.language)
        has_spaces = transcript.language not in LANGUAGES_WITHOUT_SPACES
        _end_if(should_stop)
        heard = model.log_probabilities(samples)
        # within the piece: segments may stick out of it by a recogniser's last frame
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
            first, last = round(room.start_s / model.stride_s), round(room.end_s / model.stride_s)
            origin_s = offset_s + first * model.stride_s
            spelling = _spell(segment.text, words, model.alphabet, has_spaces)
            times = _frames_of(heard[first:last], spelling, len(words), model.alphabet.blank_id)
            bounds = (offset_s + room.start_s, offset_s + room.end_s)
            if times is None:
                num_kept += 1
                segments.append(_fitted(segment, words, *bounds))
            else:
                timed = _timed(words, origin_s + times * model.stride_s, spelling)
                segments.append(_tight(_fitted(segment, timed, *bounds)))
        notes = transcript.notes
        if num_kept:
            notes = (*notes, f"words of {num_kept} segments could not be aligned and keep the recogniser's times")
        return replace(transcript, segments=tuple(segments), notes=notes)

    def _model(self, language: str) -> AlignModel:
        model = self._models.get(language)
        if model is not None:
            return model
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


@dataclass(frozen=True, slots=True)
class _Spelling:
    """A segment as the model's symbols.

    Attributes:
        symbols: their numbers; None for something spoken that the alphabet lacks.
        owners: index of the word that each belongs to, -1 for the delimiters between words.
    """

    symbols: list[int | None]
    owners: list[int]


def _spell(text: str, words: Sequence[Word], alphabet: Alphabet, has_spaces: bool) -> _Spelling:
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
    return _Spelling(symbols, owners)


def _frames_of(
    heard: NDArray[np.float32], spelling: _Spelling, num_words: int, blank_id: int
) -> NDArray[np.float64] | None:
    """Return (words, 2), each word's first frame and end frame; NaN for one without symbols, None without a path."""
    if all(symbol is None for symbol in spelling.symbols):
        return None
    frames = symbol_frames(heard, spelling.symbols, blank_id)
    if frames is None:
        return None
    times = np.full((num_words, 2), np.nan)
    for owner, (first, end) in zip(spelling.owners, frames.tolist(), strict=True):
        if owner >= 0:
            times[owner] = np.fmin(times[owner, 0], first), end
    return times


def _timed(words: Sequence[Word], times_s: NDArray[np.float64], spelling: _Spelling) -> tuple[Word, ...]:
    """Return the words with these times, (words, 2); a word without any known letter is only put in between."""
    known = {owner for owner, symbol in zip(spelling.owners, spelling.symbols, strict=True) if symbol is not None}
    return tuple(
        replace(
            word,
            start_s=float(start_s),
            end_s=float(end_s),
            timing=Timing.ALIGNED if index in known else Timing.INTERPOLATED,
        )
        for index, (word, (start_s, end_s)) in enumerate(zip(words, times_s, strict=True))
    )


def _fitted(segment: Segment, words: Sequence[Word], start_s: float, end_s: float) -> Segment:
    """Return the segment with every word timed, in order and within these bounds; it holds all of them."""
    placed = fit_words(Segment(start_s, end_s, segment.text, tuple(words))).words
    return replace(
        segment,
        start_s=min(max(segment.start_s, start_s), placed[0].start_s),
        end_s=max(min(segment.end_s, end_s), placed[-1].end_s),
        words=placed,
    )


def _tight(segment: Segment) -> Segment:
    """Return the segment from its first word to its last."""
    return replace(segment, start_s=segment.words[0].start_s, end_s=segment.words[-1].end_s)


def _words_of(text: str, has_spaces: bool) -> tuple[Word, ...]:
    """Return the words of a text of which nothing else is known; characters where words are not told apart."""
    tokens = text.split() if has_spaces else [character for character in text if not character.isspace()]
    return tuple(Word(token, math.nan, math.nan) for token in tokens)


def _end_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise ProcessingError("alignment was stopped, as its caller asked")
