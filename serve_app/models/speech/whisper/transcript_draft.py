"""`Draft`: a piece's transcript while it is made: the words of its windows, and speech that has none yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from serve_app.models.speech.coverage import Gap, find_gaps
from serve_app.models.speech.sentences import repeated_words, split_sentences
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.spoken_words import SpokenWord, shortened
from serve_app.results import AUTO, SAMPLE_RATE_HZ, Segment, SpeechRegion, SpeechTask, Word

RETRIED = "parts whose first answer was improbable or repeated itself were decoded again with a wider beam"
SAMPLED = "parts whose answer stayed improbable or repeated itself were decoded again with sampling"
NO_SPEECH = "parts in which the model finds no speech were left without words"
GARBLED = "parts that the model could not make sense of were left without words"
LOOP = "parts in which the model repeats itself were left without words"
AGAIN = "speech that the first pass left without words was decoded again"
OUTSIDE = "words that the model put where nobody speaks were left out"
HURRIED = "words that the model put closer together than anybody speaks were left out"

# A hallucinated passage has no audio of its own: alignment squeezes it. Nobody speaks a letter in less.
_FASTEST_S_PER_LETTER = 0.02
_FEWEST_HURRIED_WORDS = 3
_NEAR_SPEECH_S = 0.3
# A gap whose edges moved by less is the one that was tried: its window would get the same answer.
_SAME_EDGE_S = 0.1


@dataclass(frozen=True, slots=True)
class WindowWords:
    """What a model made of a window.

    Attributes:
        words: seconds from the start of the window.
        language: that was decoded.
        avg_logprob: of the answer.
        no_speech_prob: of the window.
        is_sure: whether no rule doubts the answer.
        notes: what to tell of it.
    """

    words: list[SpokenWord]
    language: str
    avg_logprob: float
    no_speech_prob: float
    is_sure: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A part of a piece that the model is shown.

    Attributes:
        draft: of the piece.
        samples: (n,) at 16 kHz.
        start_s: from the start of the piece.
        speech: from the start of the window.
        gap: that it is to fill; None: it is the whole piece.
    """

    draft: Draft
    samples: NDArray[np.float32]
    start_s: float
    speech: tuple[SpeechRegion, ...]
    gap: Gap | None = None

    @classmethod
    def whole(cls, draft: Draft) -> Window:
        """Return the window of the first pass."""
        return cls(draft, draft.samples, 0.0, draft.speech)

    @property
    def told_language(self) -> str | None:
        """The language to decode; None: it is to be detected."""
        if self.draft.piece.language != AUTO:
            return self.draft.piece.language
        return self.draft.language  # of the first pass

    @property
    def speech_s(self) -> float:
        """Seconds of speech in it."""
        return sum(region.end_s - region.start_s for region in self.speech)


@dataclass(slots=True)
class _PlacedWord:
    word: SpokenWord  # seconds from the start of the piece
    avg_logprob: float
    no_speech_prob: float


@dataclass(slots=True, eq=False)
class Draft:
    """Collects the words of one piece.

    Attributes:
        piece: whose transcript it is.
        samples: its samples, finite.
        speech: where somebody speaks, from the start of the piece.
        language: that was decoded; None: nothing was yet.
        notes: what to tell, in the order in which it came up.
    """

    piece: SpeechPiece
    samples: NDArray[np.float32]
    speech: tuple[SpeechRegion, ...] = field(init=False)
    language: str | None = None
    notes: list[str] = field(default_factory=list)
    _words: list[_PlacedWord] = field(default_factory=list)
    _tried: list[Gap] = field(init=False)
    _has_speech: bool = True  # false: words may lie anywhere, and nothing says that any are missing

    def __post_init__(self) -> None:
        self._tried = [Gap(0.0, self._duration_s, 0, 0)]  # by the first pass
        told = self.piece.speech
        if told is None:
            from serve_app.models.speech.voice_activity import detect_speech  # most callers have asked it already

            detected = detect_speech(self.samples)
            self._has_speech = bool(detected)
            self.speech = detected or (SpeechRegion(0.0, self._duration_s),)
            return
        moved = ((region.start_s - self.piece.offset_s, region.end_s - self.piece.offset_s) for region in told)
        clipped = ((max(start_s, 0.0), min(end_s, self._duration_s)) for start_s, end_s in moved)
        self.speech = tuple(SpeechRegion(start_s, end_s) for start_s, end_s in clipped if end_s > start_s)

    @property
    def _duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    def gaps(self) -> list[Window]:
        """Return windows of the speech that has no words and was not decoded again in vain.

        None of a translation: its words are not where the speech is that they translate.
        """
        windows: list[Window] = []
        if self.piece.task is SpeechTask.TRANSLATE or not self._has_speech:
            return windows
        for gap in find_gaps([placed.word for placed in self._words], self.speech) if self.language else []:
            gap = replace(gap, end_s=min(gap.end_s, self._duration_s))
            if any(_is_same(gap, tried) for tried in self._tried):
                continue
            first, last = round(gap.start_s * SAMPLE_RATE_HZ), round(gap.end_s * SAMPLE_RATE_HZ)
            inside = (
                (max(region.start_s, gap.start_s) - gap.start_s, min(region.end_s, gap.end_s) - gap.start_s)
                for region in self.speech
            )
            speech = tuple(SpeechRegion(start_s, end_s) for start_s, end_s in inside if end_s > start_s)
            windows.append(Window(self, self.samples[first:last], gap.start_s, speech, gap))
        # from the last one on: what fills a gap moves the words behind it
        return windows[::-1]

    def add(self, window: Window, found: WindowWords) -> None:
        """Take a window's words: as they are, or in place of what stands in its gap if they are more and sure."""
        plausible: list[SpokenWord] = found.words
        left_out: list[str] = []
        if self.piece.task is not SpeechTask.TRANSLATE:
            plausible, left_out = _plausible(found.words, window.speech)
        # a gap ends between two samples, and its words must not reach into the one behind it
        latest_s = window.gap.end_s if window.gap else self._duration_s
        placed = [
            _PlacedWord(
                SpokenWord(
                    word.text,
                    min(window.start_s + word.start_s, latest_s),
                    min(window.start_s + word.end_s, latest_s),
                    word.probability,
                ),
                found.avg_logprob,
                found.no_speech_prob,
            )
            for word in plausible
        ]
        if window.gap is None:
            self.language = found.language
            self.notes += [*found.notes, *left_out]
            self._words = placed
            return
        gap = window.gap
        self._tried.append(gap)
        before, after = self._words[: gap.first], self._words[gap.stop :]
        placed = placed[repeated_words(_texts(before), _texts(placed)) :]
        placed = placed[: len(placed) - repeated_words(_texts(placed), _texts(after))]
        if found.is_sure and len(placed) > gap.stop - gap.first:
            self.notes += [AGAIN, *found.notes, *left_out]
            self._words = [*before, *placed, *after]

    def segments(self) -> tuple[Segment, ...]:
        """Return the segments, in seconds from the start of the file."""
        words = shortened([placed.word for placed in self._words])
        origin = {id(word): placed for word, placed in zip(words, self._words, strict=True)}
        segments = []
        for run in split_sentences(words):
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
            placed = origin[id(run[0])]
            segments.append(
                Segment(timed[0].start_s, timed[-1].end_s, text, timed, placed.avg_logprob, placed.no_speech_prob)
            )
        return tuple(segments)


def _is_same(gap: Gap, tried: Gap) -> bool:
    return abs(gap.start_s - tried.start_s) <= _SAME_EDGE_S and abs(gap.end_s - tried.end_s) <= _SAME_EDGE_S


def _plausible(words: Sequence[SpokenWord], speech: Sequence[SpeechRegion]) -> tuple[list[SpokenWord], list[str]]:
    """Return the words of sentences that somebody can have spoken, there and so fast, and notes on the others."""
    kept: list[SpokenWord] = []
    left_out: list[str] = []
    for run in split_sentences(words):
        if not any(_touches(word, speech) for word in run):
            left_out.append(OUTSIDE)
        elif _is_hurried(run):
            left_out.append(HURRIED)
        else:
            kept += run
    return kept, left_out


def _touches(word: SpokenWord, speech: Sequence[SpeechRegion]) -> bool:
    return any(
        word.start_s < region.end_s + _NEAR_SPEECH_S and word.end_s > region.start_s - _NEAR_SPEECH_S
        for region in speech
    )


def _is_hurried(run: Sequence[SpokenWord]) -> bool:
    shortest_s = _FASTEST_S_PER_LETTER * sum(word.num_letters for word in run)
    return len(run) >= _FEWEST_HURRIED_WORDS and run[-1].end_s - run[0].start_s < shortest_s


def _texts(words: Sequence[_PlacedWord]) -> list[str]:
    return [placed.word.text for placed in words]
