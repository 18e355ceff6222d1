"""Frozen value types that models return and every layer above passes on. Imports the standard library only.

Times are float seconds from the start of the file, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

AUTO = "auto"  # the language is to be detected
UNDETERMINED = "und"  # ISO 639-2: nobody speaks, or no detector knows the language
SAMPLE_RATE_HZ = 16_000  # of all samples of speech, mono


class Timing(StrEnum):
    """Origin of a word's times."""

    ALIGNED = "aligned"
    INTERPOLATED = "interpolated"


class SpeechTask(StrEnum):
    """Transcription in the spoken language, or translation to English."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


@dataclass(frozen=True, slots=True)
class SpeechRegion:
    """A part of the file in which voice activity detection found speech."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word. `start_s <= end_s`; `confidence` is a probability in [0, 1], None where unknown."""

    word: str
    start_s: float
    end_s: float
    confidence: float | None = None
    timing: Timing = Timing.ALIGNED


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of words without a long pause. Every word lies inside [start_s, end_s], in order."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float | None = None  # mean log probability of Whisper's tokens; None from other recognisers
    no_speech_prob: float | None = None  # Whisper's probability of silence; None from other recognisers


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words of a file."""

    segments: tuple[Segment, ...]  # in order of time, not overlapping
    language: str  # two-letter code of the spoken language, also of a translation; "und": undetermined
    model_version: str  # of the model that transcribed, after any fall-back
    notes: tuple[str, ...] = ()  # anything degraded, retried or assumed, one sentence each
    speech_without_words_s: float | None = None  # seconds of detected speech that have no words; None: not measured


@dataclass(frozen=True, slots=True)
class LabelScores:
    """A classifier's answer for one input."""

    label: str  # the likeliest class
    scores: dict[str, float]  # probability of every class; their sum is 1, unless the model allows several at once


@dataclass(frozen=True, slots=True)
class Emotions:
    """Emotions of several parts of speech."""

    scores: tuple[LabelScores | None, ...] = ()  # of each part; None: e.g. it is too short
    model_version: str | None = None  # of the recogniser; None where it gave no scores
    notes: tuple[str, ...] = ()  # anything skipped or repeated, one sentence each


@dataclass(frozen=True, slots=True)
class SpeakerTurn:
    """An uninterrupted turn of one speaker. Turns of different speakers may overlap."""

    start_s: float
    end_s: float
    speaker_id: str


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when. Speakers are SPEAKER_00, SPEAKER_01, … in order of first appearance."""

    turns: tuple[SpeakerTurn, ...]
    model_version: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AcousticFeatures:
    """Measurements of a part of the audio."""

    volume_db: float  # RMS in dBFS (0 = full scale), never below -100
    pitch_hz: float | None  # median fundamental frequency of the voiced frames; None where nothing is voiced
    spectral_centroid_hz: float | None  # power-weighted mean frequency; None where there is no energy


@dataclass(frozen=True, slots=True)
class AudioSource:
    """A media file in the artefact store."""

    url: str  # fsspec URL or local path of the stored file
    num_bytes: int
    filename: str  # a safe display name, from the last part of the original URL's path


@dataclass(frozen=True, slots=True)
class SpeechActivity:
    """Speech regions of a decoded file, found before any large model runs."""

    duration_s: float  # of the decoded audio
    regions: tuple[SpeechRegion, ...] = ()
    notes: tuple[str, ...] = ()  # e.g. that the file was truncated


MIN_BPM, MAX_BPM = 20.0, 400.0  # of a tempo that a caller names
MAX_GRID_DIVISION = 192  # parts of a whole note, which has 1920 MIDI ticks


class Drum(StrEnum):
    """A transcribed drum, by its name in requests and answers."""

    KICK = "kick"
    SNARE = "snare"
    HIHAT = "hihat"


@dataclass(frozen=True, slots=True)
class DrumHit:
    """One stroke."""

    time_s: float
    quantized_s: float  # the time on the grid; `time_s` where there is no grid
    drum: Drum
    velocity: int  # of MIDI, 1 to 127; follows loudness
    confidence: float  # the network's activation at the stroke, in [0, 1]


@dataclass(frozen=True, slots=True)
class TempoChange:
    """From here on the beat has this tempo. A beat (quarter note) falls on `start_s`."""

    start_s: float
    bpm: float


@dataclass(frozen=True, slots=True)
class DrumTranscript:
    """The drums of a file."""

    hits: tuple[DrumHit, ...]  # in order of time, then of `Drum`
    bpm: float  # quarter notes a minute: the whole file's, or the caller's
    tempo_map: tuple[TempoChange, ...]  # at least one; the first is the first beat at or after the start of the file
    duration_s: float  # of the decoded audio
    model_version: str  # names the weights
    notes: tuple[str, ...] = ()  # anything repaired, degraded or assumed, one sentence each
