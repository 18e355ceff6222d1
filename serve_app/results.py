"""Frozen value types that models return and every layer above passes on.

Times are float seconds from the start of the file, unless a name says otherwise. Nothing here is heavy: this
module imports the standard library only, so that it can be read in any process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

AUTO = "auto"  # a language that is to be detected
UNDETERMINED = "und"  # ISO 639-2: nobody speaks, or nothing could detect the language
SAMPLE_RATE_HZ = 16_000  # of all samples of speech, mono


class Timing(StrEnum):
    """How a word got its times."""

    ALIGNED = "aligned"
    INTERPOLATED = "interpolated"


class SpeechTask(StrEnum):
    """What becomes of speech: its own words, or what it means in English."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


@dataclass(frozen=True, slots=True)
class SpeechRegion:
    """A stretch of the file in which somebody speaks, as voice activity detection found it."""

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
    """A run of words without a long pause. Every word lies inside [start_s, end_s], in order.

    Attributes:
        avg_logprob: mean log probability of the segment's tokens, as Whisper tells it; None from other recognisers.
        no_speech_prob: probability that nothing is said, as Whisper tells it; None from other recognisers.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float | None = None
    no_speech_prob: float | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a recogniser heard.

    Attributes:
        segments: in order of time, not overlapping.
        language: two-letter code of what was spoken; "und" where nothing could detect it. A translation is in English.
        model_version: names the model that really spoke (after any fall-back).
        notes: anything degraded, retried or assumed, one sentence each.
        speech_without_words_s: seconds of detected speech that have no words; None where nobody looked.
    """

    segments: tuple[Segment, ...]
    language: str
    model_version: str
    notes: tuple[str, ...] = ()
    speech_without_words_s: float | None = None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """What a classifier says of one input.

    Attributes:
        label: the likeliest class.
        scores: probability of every class, by name; they add up to 1, unless the model allows several at once.
    """

    label: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Emotions:
    """How several stretches of speech sound.

    Attributes:
        scores: of each stretch; None where there are none, as for a stretch that is too short.
        model_version: of the recogniser; None where it gave no scores.
        notes: anything skipped or repeated, one sentence each.
    """

    scores: tuple[LabelScores | None, ...] = ()
    model_version: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeakerTurn:
    """One speaker's uninterrupted stretch. Turns of different speakers may overlap."""

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
    """How a stretch of audio sounds.

    Attributes:
        volume_db: RMS in dBFS (0 = full scale), never below -100.
        pitch_hz: median fundamental frequency of the voiced frames; None where nothing is voiced.
        spectral_centroid_hz: power-weighted mean frequency; None where there is no energy.
    """

    volume_db: float
    pitch_hz: float | None
    spectral_centroid_hz: float | None


@dataclass(frozen=True, slots=True)
class AudioSource:
    """A media file in the artefact store, and what fetching it told.

    Attributes:
        url: fsspec URL or local path of the stored file.
        num_bytes: its size.
        filename: a safe display name, from the URL's last path part.
    """

    url: str
    num_bytes: int
    filename: str


@dataclass(frozen=True, slots=True)
class SpeechActivity:
    """What is known of a decoded file before any large model runs.

    Attributes:
        duration_s: of the decoded audio.
        regions: where somebody speaks.
        notes: e.g. that the file was truncated.
    """

    duration_s: float
    regions: tuple[SpeechRegion, ...] = field(default=())
    notes: tuple[str, ...] = ()


MIN_BPM, MAX_BPM = 20.0, 400.0  # of a tempo that a caller names
MAX_GRID_DIVISION = 192  # parts of a whole note, which has 1920 MIDI ticks


class Drum(StrEnum):
    """A drum that is transcribed, by its name in requests and answers."""

    KICK = "kick"
    SNARE = "snare"
    HIHAT = "hihat"


@dataclass(frozen=True, slots=True)
class DrumHit:
    """One stroke.

    Attributes:
        time_s: when it was played.
        quantized_s: where the grid puts it; `time_s` where there is no grid.
        drum: what was struck.
        velocity: MIDI velocity, 1 to 127; follows loudness.
        confidence: the network's activation at the stroke, in [0, 1].
    """

    time_s: float
    quantized_s: float
    drum: Drum
    velocity: int
    confidence: float


@dataclass(frozen=True, slots=True)
class TempoChange:
    """From here on the beat has this tempo. A beat (quarter note) falls on `start_s`."""

    start_s: float
    bpm: float


@dataclass(frozen=True, slots=True)
class DrumTranscript:
    """What was played.

    Attributes:
        hits: in order of time, then of `Drum`.
        bpm: quarter notes a minute: the whole file's, or what the caller said.
        tempo_map: at least one change; the first is the first beat at or after the start of the file.
        duration_s: of the decoded audio.
        model_version: names the weights.
        notes: anything repaired, degraded or assumed, one sentence each.
    """

    hits: tuple[DrumHit, ...]
    bpm: float
    tempo_map: tuple[TempoChange, ...]
    duration_s: float
    model_version: str
    notes: tuple[str, ...] = ()
