"""`join_transcripts`: a file's transcript from the transcripts of its pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from serve_app.analysis.attribution import texts_of_parts
from serve_app.models.speech.coverage import speech_without_words
from serve_app.results import AUTO, UNDETERMINED, SpeechRegion, Transcript
from serve_app.sentences import Sentence

_MOST_TIMES = 20  # stretches without words that a note lists; the number in the metadata counts all
REPEATED = "words repeated across a cut were dropped"
# Words on both sides of a cut inside speech are nearer than this; people pause before they repeat themselves.
_ACROSS_CUT_S = 0.5
_FEWEST_REPEATED_WORDS, _FEWEST_REPEATED_LETTERS = 2, 4


def join_transcripts(
    pieces: Iterable[Transcript],
    *,
    language: str = AUTO,
    notes: Sequence[str] = (),
    speech: Sequence[SpeechRegion] | None = None,
) -> Transcript:
    """Join the transcripts of a file's pieces, which may come in any order.

    The language is the one with the most text; a note names the others. Without pieces (no speech at all) it is the
    requested one, or "und" for "auto". `notes` come before those of the pieces.

    Args:
        speech: of the whole file, in order; a note lists the parts without words, and `speech_without_words_s` counts
            them. None: speech was not detected.
    """
    found = list(pieces)
    segments = tuple(sorted((part for piece in found for part in piece.segments), key=lambda part: part.start_s))
    all_notes = list(dict.fromkeys([*notes, *(note for piece in found for note in piece.notes)]))
    letters: Counter[str] = Counter()
    for piece in found:
        letters[piece.language] += sum(len(segment.text) for segment in piece.segments)
    ranked = [name for name, _ in letters.most_common()]
    others = [name for name in ranked[1:] if letters[name]]
    if others:
        all_notes.append(
            Sentence("other languages were detected in parts of the file: {languages}", languages=", ".join(others))
        )
    without_s = None
    if speech is not None:
        # a segment without words counts as one long word
        words = [(part.start_s, part.end_s) for segment in segments for part in segment.words or (segment,)]
        without = speech_without_words(speech, words)
        if not speech:
            all_notes.append(Sentence("no speech was detected"))
        without_s = sum(region.end_s - region.start_s for region in without)
        if without:
            shown = ", ".join(f"{region.start_s:.1f}-{region.end_s:.1f} s" for region in without[:_MOST_TIMES])
            if more := len(without) - _MOST_TIMES if len(without) > _MOST_TIMES else 0:
                shown = Sentence("{shown} and {num} more", shown=shown, num=more)
            all_notes.append(
                Sentence(
                    "no words were recognized in {without_s:.1f} s of detected speech: {shown}",
                    without_s=without_s,
                    shown=shown,
                )
            )
    models = dict.fromkeys(piece.model_version for piece in found)
    assumed = UNDETERMINED if language == AUTO else language
    return Transcript(segments, ranked[0] if ranked else assumed, " + ".join(models), tuple(all_notes), without_s)


def without_repetition(before: Transcript | None, piece: Transcript) -> Transcript:
    """Return a piece without the words at its start that repeat the end of the piece before it, with a note.

    A single word, and words after a pause, stay: people do repeat those.

    Args:
        before: the last piece before it that has words; None: there is none.
        piece: the next one in order of time.
    """
    if before is None or not before.segments or not piece.segments:
        return piece
    last, first = before.segments[-1], piece.segments[0]
    if first.start_s - last.end_s >= _ACROSS_CUT_S:
        return piece
    spoken = [word.word for word in first.words]
    count = repeated_words([word.word for word in last.words], spoken)
    num_letters = sum(letter.isalnum() for word in spoken[:count] for letter in word)
    if count < _FEWEST_REPEATED_WORDS or num_letters < _FEWEST_REPEATED_LETTERS:
        return piece
    segments = piece.segments[1:]
    if count < len(spoken):
        words = first.words[count:]
        text = texts_of_parts(first, [0, count])[1]
        segments = (replace(first, start_s=words[0].start_s, text=text, words=words), *segments)
    return replace(piece, segments=segments, notes=(*piece.notes, REPEATED))


def repeated_words(before: Sequence[str], after: Sequence[str], most: int = 5) -> int:
    """Return how many words at the start of `after` repeat the end of `before`, at most `most`.

    Words are compared in lower case without punctuation.
    """
    left, right = (
        ["".join(filter(str.isalnum, word.lower())) for word in words] for words in (before[-most:], after[:most])
    )
    for count in range(min(len(left), len(right)), 0, -1):
        if left[-count:] == right[:count] and any(right[:count]):
            return count
    return 0
