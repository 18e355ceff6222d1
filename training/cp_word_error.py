"""Who said what, as one number: the concatenated minimum-permutation word error rate (cpWER), by meeteval.

Each speaker's words are put one after the other; the speakers of the truth and of the result are paired so that the
errors are fewest, and the words of a speaker without a partner are all errors. (Watanabe et al., "CHiME-6 Challenge",
2020, section 4; meeteval is the reference of the CHiME challenges.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import meeteval.wer
from whisper.normalizers import EnglishTextNormalizer

# Text, start in seconds, speaker.
SpeakerWord = tuple[str, float, str | None]


@dataclass(frozen=True, slots=True)
class CpWordErrors:
    """The figure and what it is made of.

    Attributes:
        num_words: in the truth, after normalization.
        num_errors: substitutions, deletions and insertions, speakers being paired as well as they can be.
        num_missed_speakers: of the truth, with no partner in the result.
        num_false_speakers: of the result, with no partner in the truth.
    """

    num_words: int
    num_errors: int
    num_missed_speakers: int
    num_false_speakers: int

    @property
    def rate(self) -> float:
        """Return errors over words; may exceed 1; NaN without words in the truth."""
        return self.num_errors / self.num_words if self.num_words else float("nan")


def cp_word_errors(spoken: Iterable[SpeakerWord], heard: Iterable[SpeakerWord]) -> CpWordErrors:
    """Compare words with words. Both are normalized as Whisper's authors do for English: case, punctuation, numbers.

    Args:
        spoken: the truth, in any order.
        heard: the result, in any order; words of nobody (None) are those of one more speaker.
    """
    errors = meeteval.wer.cp_word_error_rate(_texts(spoken), _texts(heard), reference_sort=False, hypothesis_sort=False)
    return CpWordErrors(errors.length, errors.errors, errors.missed_speaker, errors.falarm_speaker)


def truth_words(truth: Mapping[str, Any]) -> list[SpeakerWord]:
    """Return the words of a truth in the form that `serve_app.scoring` reads."""
    return [(word["word"], word["start"], word["speaker"]) for word in truth["words"]]


def result_words(result: Mapping[str, Any]) -> list[SpeakerWord]:
    """Return the words of the contract's result object."""
    return [(word["word"], word["start_time"], word["speaker_id"]) for word in result["word_segments"]]


def _texts(words: Iterable[SpeakerWord]) -> dict[str, str]:
    """Return each speaker's words in order of time, as one normalized text; speakers with no words are left out."""
    normalize = EnglishTextNormalizer()
    own: dict[str, list[str]] = {}
    for text, _, speaker in sorted(words, key=lambda word: word[1]):
        own.setdefault("nobody" if speaker is None else f"speaker {speaker}", []).append(text)
    texts = {speaker: normalize(" ".join(parts)) for speaker, parts in own.items()}
    return {speaker: text for speaker, text in texts.items() if text}
