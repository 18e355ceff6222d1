"""`Draft`: a piece's unfinished transcript: the words of its windows, and the speech that has none yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from serve_app.models.speech.coverage import Gap, find_gaps
from serve_app.models.speech.joining import repeated_words
from serve_app.models.speech.pieces import speech_inside
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.spoken_words import SpokenWord, shortened, split_sentences
from serve_app.results import AUTO, SAMPLE_RATE_HZ, Segment, SpeechRegion, SpeechTask, Word

RETRIED = "parts whose first answer was improbable or repeated itself were decoded again with a wider beam"
SAMPLED = "parts whose answer stayed improbable or repeated itself were decoded again with sampling"
NO_SPEECH = "parts in which the model finds no speech were left without words"
GARBLED = "parts that the model could not make sense of were left without words"
LOOP = "parts in which the model repeats itself were left without words"
AGAIN = "speech that the first pass left without words was decoded again"
OUTSIDE = "words that the model put where nobody speaks were left out"
HURRIED = "words that the model put closer together than anybody speaks were left out"

# A hallucinated passage has no audio of its own: alignment squeezes it. Speech takes longer for a letter.
_FASTEST_S_PER_LETTER = 0.02
_FEWEST_HURRIED_WORDS = 3
_NEAR_SPEECH_S = 0.3
# A gap with nearer edges than this was tried already: its window would get the same answer.
_SAME_EDGE_S = 0.1


@dataclass(frozen=True, slots=True)
class WindowWords:
    """The answer for a window."""

    words: list[SpokenWord]  # seconds from the start of the window
    language: str
    avg_logprob: float
    no_speech_prob: float
    is_sure: bool  # it passes all rules
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A part of a piece that is decoded at once."""

    draft: Draft
    samples: NDArray[np.float32]  # (n,) at 16 kHz
    start_s: float  # from the start of the piece
    speech: tuple[SpeechRegion, ...]  # from the start of the window
    gap: Gap | None = None  # None: it is the whole piece

    @classmethod
    def whole(cls, draft: Draft) -> Window:
        """Return the window of the first pass."""
        return cls(draft, draft.samples, 0.0, draft.speech)

    @property
    def speech_s(self) -> float:
        """Seconds of speech in it."""
        return sum(region.end_s - region.start_s for region in self.speech)


@dataclass(slots=True, eq=False)
class Draft:
    """Collects the words of one piece."""

    piece: SpeechPiece
    samples: NDArray[np.float32]  # of the piece, finite
    speech: tuple[SpeechRegion, ...] = field(init=False)  # from the start of the piece
    language: str | None = None  # None: no window was decoded yet
    notes: list[str] = field(default_factory=list)
    _words: list[SpokenWord] = field(default_factory=list)  # seconds from the start of the piece
    _tried: list[Gap] = field(init=False)
    _has_speech: bool = True  # false: words may lie anywhere, and missing ones can't be noticed

    def __post_init__(self) -> None:
        whole = SpeechRegion(0.0, self._duration_s)
        self._tried = [Gap(0.0, self._duration_s, 0, 0)]  # by the first pass
        if self.piece.speech is None:
            from serve_app.models.speech.voice_activity import detect_speech  # most callers have called it already

            detected = detect_speech(self.samples)
            self._has_speech = bool(detected)
            self.speech = detected or (whole,)
        else:
            self.speech = speech_inside(_moved(self.piece.speech, -self.piece.offset_s), whole)

    @property
    def _duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def known_language(self) -> str | None:
        """The requested language, or that of the first pass; None: it must be detected."""
        return self.piece.language if self.piece.language != AUTO else self.language

    def gaps(self) -> list[Window]:
        """Return windows of the speech without words that was not tried yet.

        A translation has none: its words do not lie where the original ones do.
        """
        windows: list[Window] = []
        if self.piece.task is SpeechTask.TRANSLATE or not self._has_speech:
            return windows
        for gap in find_gaps(self._words, self.speech) if self.language else []:
            gap = replace(gap, end_s=min(gap.end_s, self._duration_s))
            if any(
                abs(gap.start_s - tried.start_s) <= _SAME_EDGE_S and abs(gap.end_s - tried.end_s) <= _SAME_EDGE_S
                for tried in self._tried
            ):
                continue
            first, last = round(gap.start_s * SAMPLE_RATE_HZ), round(gap.end_s * SAMPLE_RATE_HZ)
            speech = _moved(speech_inside(self.speech, SpeechRegion(gap.start_s, gap.end_s)), -gap.start_s)
            windows.append(Window(self, self.samples[first:last], gap.start_s, speech, gap))
        # the last one first: new words in a gap move the indices of those after it
        return windows[::-1]

    def add(self, window: Window, found: WindowWords) -> None:
        """Take a window's words, in a gap only where they are sure and more than the ones there."""
        plausible, notes = found.words, found.notes
        if self.piece.task is not SpeechTask.TRANSLATE:
            plausible, left_out = _plausible(found.words, window.speech)
            notes = (*notes, *left_out)
        gap = window.gap
        # a gap ends between two samples, and its words must not reach into the next one
        latest_s = gap.end_s if gap else self._duration_s
        placed = [
            replace(
                word,
                start_s=min(window.start_s + word.start_s, latest_s),
                end_s=min(window.start_s + word.end_s, latest_s),
                avg_logprob=found.avg_logprob,
                no_speech_prob=found.no_speech_prob,
            )
            for word in plausible
        ]
        if gap is None:
            self.language = found.language
            self.notes += notes
            self._words = placed
            return
        self._tried.append(gap)
        before, after = self._words[: gap.first], self._words[gap.stop :]
        placed = placed[repeated_words(_texts(before), _texts(placed)) :]
        placed = placed[: len(placed) - repeated_words(_texts(placed), _texts(after))]
        if found.is_sure and len(placed) > gap.stop - gap.first:
            self.notes += [AGAIN, *notes]
            self._words = [*before, *placed, *after]

    def segments(self) -> tuple[Segment, ...]:
        """Return the segments, in seconds from the start of the file."""
        segments = []
        for run in split_sentences(shortened(self._words)):
            timed = tuple(
                Word(
                    word.text.strip(),
                    self.piece.offset_s + word.start_s,
                    self.piece.offset_s + word.end_s,
                    min(1.0, max(0.0, word.probability)),
                )
                for word in run
            )
            text = "".join(word.text for word in run).strip()
            segments.append(
                Segment(timed[0].start_s, timed[-1].end_s, text, timed, run[0].avg_logprob, run[0].no_speech_prob)
            )
        return tuple(segments)


def _moved(speech: Sequence[SpeechRegion], by_s: float) -> tuple[SpeechRegion, ...]:
    return tuple(SpeechRegion(region.start_s + by_s, region.end_s + by_s) for region in speech)


def _plausible(words: Sequence[SpokenWord], speech: Sequence[SpeechRegion]) -> tuple[list[SpokenWord], list[str]]:
    """Return the words of sentences that lie near speech and are not too fast; and notes on the others."""
    kept: list[SpokenWord] = []
    left_out: list[str] = []
    for run in split_sentences(words):
        shortest_s = _FASTEST_S_PER_LETTER * sum(word.num_letters for word in run)
        if not any(_touches(word, speech) for word in run):
            left_out.append(OUTSIDE)
        elif len(run) >= _FEWEST_HURRIED_WORDS and run[-1].end_s - run[0].start_s < shortest_s:
            left_out.append(HURRIED)
        else:
            kept += run
    return kept, left_out


def _touches(word: SpokenWord, speech: Sequence[SpeechRegion]) -> bool:
    return any(
        word.start_s < region.end_s + _NEAR_SPEECH_S and word.end_s > region.start_s - _NEAR_SPEECH_S
        for region in speech
    )


def _texts(words: Sequence[SpokenWord]) -> list[str]:
    return [word.text for word in words]
