"""The contract's result object: what all stages found, put together as JSON.

Everything in it is plain and finite: times are rounded to milliseconds (which keeps their order), levels and
frequencies to two decimals, and what is unknown is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.models.speech.attribution import SpokenSegment, texts_of_parts
from serve_app.models.speech.coverage import speech_without_words
from serve_app.models.speech.sentences import repeated_words
from serve_app.results import (
    AcousticFeatures,
    Diarization,
    LabelScores,
    Segment,
    SpeakerTurn,
    SpeechRegion,
    Transcript,
    Word,
)

AUTO = "auto"
# What ISO 639-2 calls a language that nobody could tell: nothing was said.
UNDETERMINED = "und"
# Stretches without words that a note names; the number in the metadata counts them all.
_MOST_TIMES = 20
REPEATED = "words repeated across a cut were dropped"
# At a cut inside of speech the words on both sides are nearer than this; people pause before they say a thing again.
_ACROSS_CUT_S = 0.5
_FEWEST_REPEATED_WORDS, _FEWEST_REPEATED_LETTERS = 2, 4


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run beside what its models said.

    Attributes:
        duration_s: of the decoded audio.
        language_requested: "auto" or a two-letter code.
        processing_time_s: from the start of the job's work to its end.
        stage_seconds: how long each stage took, by name; stages that ran side by side overlap.
        notes: anything skipped, retried or degraded outside transcription and diarization, one sentence each.
    """

    duration_s: float
    language_requested: str
    processing_time_s: float
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


def join_transcripts(
    pieces: Iterable[Transcript],
    *,
    language: str = AUTO,
    notes: Sequence[str] = (),
    speech: Sequence[SpeechRegion] | None = None,
) -> Transcript:
    """Join the transcripts of a file's pieces, in whatever order they were finished.

    The language is the one with the most text; a note names the others. Without pieces (no speech at all) it is the
    requested one, or "und" for "auto". `notes` come before those of the pieces.

    Args:
        pieces: of the file.
        language: that was requested.
        notes: of the file.
        speech: of the whole file, in order; stretches of it that have no words are told, and counted in
            `speech_without_words_s`. None: nobody looked for speech.
    """
    found = list(pieces)
    segments = tuple(sorted((segment for piece in found for segment in piece.segments), key=_start))
    all_notes = list(dict.fromkeys([*notes, *(note for piece in found for note in piece.notes)]))
    letters: dict[str, int] = {}
    for piece in found:
        letters[piece.language] = letters.get(piece.language, 0) + sum(len(segment.text) for segment in piece.segments)
    ranked = sorted(letters, key=lambda name: -letters[name])
    others = [name for name in ranked[1:] if letters[name]]
    if others:
        all_notes.append(f"other languages were detected in parts of the file: {', '.join(others)}")
    without_s = None
    if speech is not None:
        # a segment without words is as good as one long word
        words = [(part.start_s, part.end_s) for segment in segments for part in segment.words or (segment,)]
        without = speech_without_words(speech, words)
        if not speech:
            all_notes.append("no speech was detected")
        without_s = sum(region.end_s - region.start_s for region in without)
        if without:
            all_notes.append(_no_words_note(without, without_s))
    models = dict.fromkeys(piece.model_version for piece in found)
    assumed = UNDETERMINED if language == AUTO else language
    return Transcript(segments, ranked[0] if ranked else assumed, " + ".join(models), tuple(all_notes), without_s)


def without_repetition(before: Transcript | None, piece: Transcript) -> Transcript:
    """Return a piece without the words at its start that repeat the end of the piece before it, with a note.

    A single word, and what is said after a pause, may well be said twice, and stays.

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


def _no_words_note(without: Sequence[SpeechRegion], without_s: float) -> str:
    shown = ", ".join(f"{region.start_s:.1f}-{region.end_s:.1f} s" for region in without[:_MOST_TIMES])
    more = f" and {len(without) - _MOST_TIMES} more" if len(without) > _MOST_TIMES else ""
    return f"no words were recognized in {without_s:.1f} s of detected speech: {shown}{more}"


def assemble(
    spoken: Sequence[SpokenSegment],
    features: Sequence[AcousticFeatures],
    *,
    transcript: Transcript,
    diarization: Diarization,
    facts: RunFacts,
    emotions: Sequence[LabelScores | None] = (),
    emotion_model_version: str | None = None,
) -> dict[str, Any]:
    """Return the result object of CONTRACT.md, section 1.

    Words without any speaker (diarization found nobody, or did not run) are one speaker's, with a note. Speakers are
    numbered in the order in which they first appear in the segments; those who take turns but are never understood
    come after them, in `speaker_turns` only.

    Args:
        spoken: from `attribution.attribute`.
        features: one for each word of `spoken`, in order.
        transcript: for its language, model and notes.
        diarization: for its turns and notes.
        facts: everything else.
        emotions: one for each of `spoken`, None where it could not be told; none at all where nobody tried, and no
            segment then has the key `emotion`.
        emotion_model_version: which model told them.

    Raises:
        ValueError: if features and words, or emotions and segments, differ in number.
    """
    notes = [*facts.notes, *transcript.notes, *diarization.notes]
    parts = _parts(spoken, features, emotions, facts.duration_s)
    names = _numbered((part.spoken.speaker_id for part in parts), diarization.turns)
    if None in names:
        notes.append(f"no speaker could be told from the audio: such words are given to {names[None]}")
    segments: list[dict[str, Any]] = []
    word_segments: list[dict[str, Any]] = []
    speakers: dict[str, dict[str, Any]] = {}
    for part in parts:
        segment, speaker_id = part.spoken.segment, names[part.spoken.speaker_id]
        segments.append(
            {
                "start_time": _ms(segment.start_s),
                "end_time": _ms(segment.end_s),
                "text": segment.text.strip(),
                "speaker": {"speaker_id": speaker_id},
                "words": [_word(word, sound) for word, sound in zip(segment.words, part.features, strict=True)],
                **({"emotion": _emotion(part.emotion)} if emotions else {}),
            }
        )
        word_segments += [_word_segment(word, speaker_id) for word in segment.words]
        totals = speakers.setdefault(speaker_id, {"total_duration": 0.0, "segment_count": 0})
        totals["total_duration"] = _ms(totals["total_duration"] + segment.end_s - segment.start_s)
        totals["segment_count"] += 1
    return {
        "segments": segments,
        "word_segments": word_segments,
        "speakers": speakers,
        "text": " ".join(segment["text"] for segment in segments),
        "language": transcript.language,
        "duration": _ms(facts.duration_s),
        "speaker_turns": [
            {
                "start_time": _ms(min(turn.start_s, facts.duration_s)),
                "end_time": _ms(min(turn.end_s, facts.duration_s)),
                "speaker_id": names[turn.speaker_id],
            }
            for turn in sorted(diarization.turns, key=_start)
        ],
        "metadata": {
            "model_version": transcript.model_version,
            "diarization_model_version": diarization.model_version,
            **({"emotion_model_version": emotion_model_version} if emotion_model_version is not None else {}),
            "processing_time": _ms(facts.processing_time_s),
            "unique_speakers": len(speakers),
            "total_segments": len(segments),
            "language_requested": facts.language_requested,
            "language_detected": transcript.language,
            "processing_mode": "auto-detect" if facts.language_requested == AUTO else "targeted",
            **(
                {"speech_seconds_without_words": _ms(transcript.speech_without_words_s)}
                if transcript.speech_without_words_s is not None
                else {}
            ),
            "stage_seconds": {stage: _ms(seconds) for stage, seconds in facts.stage_seconds.items()},
            "notes": list(dict.fromkeys(notes)),
        },
    }


@dataclass(frozen=True, slots=True)
class _Part:
    """What was said without a break, with what is known of it."""

    spoken: SpokenSegment
    features: Sequence[AcousticFeatures]
    emotion: LabelScores | None


def _parts(
    spoken: Sequence[SpokenSegment],
    features: Sequence[AcousticFeatures],
    emotions: Sequence[LabelScores | None],
    duration_s: float,
) -> list[_Part]:
    """Return what was said, in order of time and inside the file, each with its words' features and its emotion."""
    num_words = sum(len(part.segment.words) for part in spoken)
    if len(features) != num_words:
        raise ValueError(f"{num_words} words need as many features, got {len(features)}")
    if emotions and len(emotions) != len(spoken):
        raise ValueError(f"{len(spoken)} segments need as many emotions, got {len(emotions)}")
    parts, first = [], 0
    for part, emotion in zip(spoken, emotions or [None] * len(spoken), strict=True):
        heard = features[first : first + len(part.segment.words)]
        first += len(part.segment.words)
        if part.segment.text.strip():
            parts.append(_Part(SpokenSegment(_until(part.segment, duration_s), part.speaker_id), heard, emotion))
    return sorted(parts, key=lambda part: part.spoken.segment.start_s)


def _until(segment: Segment, duration_s: float) -> Segment:
    """Return the segment without what sticks out of the file by a recogniser's last frame."""
    if segment.end_s <= duration_s:
        return segment
    words = tuple(
        replace(word, start_s=min(word.start_s, duration_s), end_s=min(word.end_s, duration_s))
        for word in segment.words
    )
    return Segment(min(segment.start_s, duration_s), duration_s, segment.text, words)


def _numbered(appearing: Iterable[str | None], turns: Iterable[SpeakerTurn]) -> dict[str | None, str]:
    """Return each speaker's public name, numbered by first appearance."""
    silent = (turn.speaker_id for turn in sorted(turns, key=_start))
    return {name: f"SPEAKER_{number:02d}" for number, name in enumerate(dict.fromkeys((*appearing, *silent)))}


def _word(word: Word, sound: AcousticFeatures) -> dict[str, Any]:
    return {
        "word": word.word,
        "start": _ms(word.start_s),
        "end": _ms(word.end_s),
        "confidence": _rounded(word.confidence, 3),
        "timing": word.timing.value,
        "acoustic_features": {
            "volume_db": _rounded(sound.volume_db, 2),
            "pitch_hz": _rounded(sound.pitch_hz, 2),
            "spectral_centroid": _rounded(sound.spectral_centroid_hz, 2),
        },
    }


def _emotion(found: LabelScores | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"label": found.label, "scores": {label: _rounded(score, 3) for label, score in found.scores.items()}}


def _word_segment(word: Word, speaker_id: str) -> dict[str, Any]:
    return {
        "word": word.word,
        "start_time": _ms(word.start_s),
        "end_time": _ms(word.end_s),
        "speaker_id": speaker_id,
        "confidence": _rounded(word.confidence, 3),
        "timing": word.timing.value,
    }


def _start(stretch: Segment | SpeakerTurn) -> float:
    return stretch.start_s


def _ms(seconds: float) -> float:
    return round(float(seconds), 3)


def _rounded(value: float | None, digits: int) -> float | None:
    """Return a number that JSON can hold: not-a-number and infinities are unknown."""
    return round(float(value), digits) if value is not None and math.isfinite(value) else None
