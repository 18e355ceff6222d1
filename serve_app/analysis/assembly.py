"""`assemble`: makes an `AnalysisResult` of the results of all stages.

Every number in it is finite: times are rounded to milliseconds (which keeps their order), levels and frequencies to two
decimals, and unknown values are None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from typing_extensions import TypedDict

from serve_app.analysis.attribution import SpokenSegment
from serve_app.analysis.result import (
    AnalysisResult,
    ResultEmotion,
    ResultSegment,
    ResultSpeakerTotals,
    ResultWord,
    ResultWordSegment,
)
from serve_app.results import AUTO, AcousticFeatures, Diarization, LabelScores, Segment, Transcript, Word
from serve_app.sentences import Sentence


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Facts of a run that no model gives.

    Attributes:
        duration_s: of the decoded audio.
        language_requested: "auto" or a two-letter code.
        processing_time_s: from the start of the job's work to its end.
        stage_seconds: by stage; stages that ran side by side overlap.
        notes: anything skipped, retried or degraded outside transcription and diarization, one sentence each.
    """

    duration_s: float
    language_requested: str
    processing_time_s: float
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


def assemble(
    spoken: Sequence[SpokenSegment],
    features: Sequence[AcousticFeatures],
    *,
    transcript: Transcript,
    diarization: Diarization,
    facts: RunFacts,
    emotions: Sequence[LabelScores | None] = (),
    emotion_model_version: str | None = None,
) -> AnalysisResult:
    """Return the result of an analysis.

    Words without any speaker (diarization found nobody, or did not run) are one speaker's, with a note. Speakers are
    numbered in the order in which they first appear in the segments; those without segments come after them, in
    `speaker_turns` only.

    Args:
        spoken: from `attribution.attribute`.
        features: one for each word of `spoken`, in order; ValueError if their numbers differ.
        transcript: for its language, model and notes.
        diarization: for its turns and notes.
        facts: everything else.
        emotions: one for each of `spoken`, None where it could not be recognised; empty where none was asked for, and
            no segment then has the key `emotion`. ValueError if their numbers differ.
        emotion_model_version: the model that recognised them.
    """
    notes = [*facts.notes, *transcript.notes, *diarization.notes]
    parts = _parts(spoken, features, emotions, facts.duration_s)
    turns = sorted(diarization.turns, key=lambda turn: turn.start_s)
    appearing = [*(spoken_by.speaker_id for spoken_by, _, _ in parts), *(turn.speaker_id for turn in turns)]
    names = {name: f"SPEAKER_{number:02d}" for number, name in enumerate(dict.fromkeys(appearing))}
    if None in names:
        notes.append(
            Sentence("no speaker could be told from the audio: such words are given to {speaker}", speaker=names[None])
        )
    segments: list[ResultSegment] = []
    word_segments: list[ResultWordSegment] = []
    speakers: dict[str, ResultSpeakerTotals] = {}
    for spoken_by, sounds, emotion in parts:
        segment, speaker_id = spoken_by.segment, names[spoken_by.speaker_id]
        segments.append(
            {
                "start_time": _ms(segment.start_s),
                "end_time": _ms(segment.end_s),
                "text": segment.text.strip(),
                "speaker": {"speaker_id": speaker_id},
                "words": [_word(word, sound) for word, sound in zip(segment.words, sounds, strict=True)],
            }
        )
        if emotions:
            segments[-1]["emotion"] = _emotion(emotion)
        word_segments += [_word_segment(word, speaker_id) for word in segment.words]
        totals = speakers.setdefault(speaker_id, {"total_duration": 0.0, "segment_count": 0})
        totals["total_duration"] = _ms(totals["total_duration"] + segment.end_s - segment.start_s)
        totals["segment_count"] += 1
    emotion_model: _EmotionModel = {}
    if emotion_model_version is not None:
        emotion_model["emotion_model_version"] = emotion_model_version
    unwritten: _SpeechWithoutWords = {}
    if transcript.speech_without_words_s is not None:
        unwritten["speech_seconds_without_words"] = _ms(transcript.speech_without_words_s)
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
            for turn in turns
        ],
        "metadata": {
            "model_version": transcript.model_version,
            "diarization_model_version": diarization.model_version,
            **emotion_model,
            "processing_time": _ms(facts.processing_time_s),
            "unique_speakers": len(speakers),
            "total_segments": len(segments),
            "language_requested": facts.language_requested,
            "language_detected": transcript.language,
            "processing_mode": "auto-detect" if facts.language_requested == AUTO else "targeted",
            **unwritten,
            "stage_seconds": {stage: _ms(seconds) for stage, seconds in facts.stage_seconds.items()},
            "notes": list(dict.fromkeys(notes)),
        },
    }


class _EmotionModel(TypedDict, total=False):
    emotion_model_version: str


class _SpeechWithoutWords(TypedDict, total=False):
    speech_seconds_without_words: float


_Part: TypeAlias = tuple[SpokenSegment, Sequence[AcousticFeatures], LabelScores | None]


def _parts(
    spoken: Sequence[SpokenSegment],
    features: Sequence[AcousticFeatures],
    emotions: Sequence[LabelScores | None],
    duration_s: float,
) -> list[_Part]:
    """Return the segments in order of time and inside the file, each with its words' features and its emotion."""
    num_words = sum(len(part.segment.words) for part in spoken)
    if len(features) != num_words:
        raise ValueError(f"{num_words} words need as many features, got {len(features)}")
    if emotions and len(emotions) != len(spoken):
        raise ValueError(f"{len(spoken)} segments need as many emotions, got {len(emotions)}")
    parts, first = [], 0
    for part, emotion in zip(spoken, emotions or [None] * len(spoken), strict=True):
        own = features[first : first + len(part.segment.words)]
        first += len(part.segment.words)
        if part.segment.text.strip():
            parts.append((SpokenSegment(_until(part.segment, duration_s), part.speaker_id), own, emotion))
    return sorted(parts, key=lambda part: part[0].segment.start_s)


def _until(segment: Segment, duration_s: float) -> Segment:
    """Return the segment cut at the file's end, which a recogniser's last frame may pass."""
    if segment.end_s <= duration_s:
        return segment
    words = tuple(
        replace(word, start_s=min(word.start_s, duration_s), end_s=min(word.end_s, duration_s))
        for word in segment.words
    )
    return Segment(min(segment.start_s, duration_s), duration_s, segment.text, words)


def _word(word: Word, sound: AcousticFeatures) -> ResultWord:
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


def _emotion(found: LabelScores | None) -> ResultEmotion | None:
    if found is None:
        return None
    return {"label": found.label, "scores": {label: _rounded(score, 3) for label, score in found.scores.items()}}


def _word_segment(word: Word, speaker_id: str) -> ResultWordSegment:
    return {
        "word": word.word,
        "start_time": _ms(word.start_s),
        "end_time": _ms(word.end_s),
        "speaker_id": speaker_id,
        "confidence": _rounded(word.confidence, 3),
        "timing": word.timing.value,
    }


def _ms(seconds: float) -> float:
    return round(float(seconds), 3)


def _rounded(value: float | None, digits: int) -> float | None:
    """Return a number that JSON can hold; None for not-a-number and infinities."""
    return round(float(value), digits) if value is not None and math.isfinite(value) else None
