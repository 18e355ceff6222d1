"""Frozen value types that models return and every layer above passes on. Imports the standard library only.

Times are float seconds from the start of the file, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from serve_app.sentences import Text

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
    notes: tuple[Text, ...] = ()  # anything degraded, retried or assumed, one sentence each
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
    notes: tuple[Text, ...] = ()  # anything skipped or repeated, one sentence each


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
    notes: tuple[Text, ...] = ()


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
    notes: tuple[Text, ...] = ()  # e.g. that the file was truncated


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
    notes: tuple[Text, ...] = ()  # anything repaired, degraded or assumed, one sentence each
    bpm_alternative: float | None = None  # half or twice `bpm`, where that may be meant


MIN_MUSIC_S, MAX_MUSIC_S = 5.0, 120.0  # length of a piece of music that a caller may ask for
MAX_SEED = 2**53 - 1  # of a piece: the largest whole number that every JSON reader keeps


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """What can be measured in a picture; each value lies in [0, 1] unless it says otherwise."""

    brightness: float  # mean lightness: CIE L* / 100
    saturation: float  # mean chroma of the colours, relative to the most vivid ones of sRGB
    warmth: float  # in [-1, 1]: blue to red and yellow, weighted by saturation
    contrast: float  # spread of the lightness
    colorfulness: float  # Hasler and Süsstrunk (2003)
    edge_density: float  # share of pixels on an edge
    entropy: float  # of the lightness histogram, relative to the largest possible one
    colors: tuple[tuple[str, float], ...]  # English names and shares of the main colours, the largest first
    contour: tuple[float, ...]  # lightness of 16 columns from left to right


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """A caller's picture, cleaned: decoded, turned upright, laid on white, made smaller, without any metadata."""

    jpeg: bytes
    width: int
    height: int
    sha256: str  # of `jpeg`, in hexadecimal
    features: PictureFeatures
    notes: tuple[Text, ...] = ()  # e.g. that only the first frame was taken


@dataclass(frozen=True, slots=True)
class Caption:
    """What a picture shows, and how it feels."""

    caption_ko: str
    caption_en: str
    mood_words: tuple[str, ...]  # English, lower case
    valence: float  # -1: unpleasant, 1: pleasant
    arousal: float  # -1: calm, 1: excited
    instruments: tuple[str, ...]  # that the captioner suggests, in English; may be empty
    captioner: str  # that answered: `features`, `chat` or `transformers`
    model_version: str
    fallback_reason: Text | None = None  # why an earlier captioner of the configuration did not answer
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class FormSection:
    """A part of a piece."""

    name: str  # intro, A, A', B, A'', outro
    bars: int


@dataclass(frozen=True, slots=True)
class MusicPlan:
    """A piece of music before it is played: every engine gets the same plan and takes from it what it can."""

    version: int  # of the rules that made the plan
    seed: int  # with `picture_sha256` the source of every random choice
    picture_sha256: str
    valence: float  # -1 to 1, of picture, caption and prompt together
    arousal: float  # -1 to 1
    key: str  # the tonic: C, C#, D, … B
    mode: str  # lydian, ionian, mixolydian, dorian, aeolian or phrygian
    tempo_bpm: int
    metre: str  # 4/4, 3/4 or 6/8
    duration_s: float
    form: tuple[FormSection, ...]
    instruments: tuple[str, ...]  # in English, the leading one first
    density: float  # 0 to 1: how many notes a bar has
    contour: tuple[float, ...]  # 16 values in [0, 1] that the melody follows
    prompt_en: str  # for engines that take words


@dataclass(frozen=True, slots=True)
class RenderedMusic:
    """A piece as its engine made it."""

    audio: bytes  # FLAC, 24 bits, mono or stereo
    midi: bytes | None  # of an engine that makes notes
    engine: str
    model_version: str
    license: Text  # of the model or program that made it, and of what it makes, in a sentence
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class MasteredMusic:
    """A piece after trimming, fades, loudness and limiting; and what is wrong with it."""

    audio: bytes  # FLAC, 24 bits, stereo
    duration_s: float
    measurements: dict[str, float]  # loudness_lufs, peak_dbfs, silence_share, onsets_per_s, …
    faults: tuple[Text, ...]  # a sentence for each check that failed; empty: it may be published


@dataclass(frozen=True, slots=True)
class EncodedMusic:
    """A mastered piece as files to play and to keep."""

    mp3: bytes
    flac: bytes


@dataclass(frozen=True, slots=True)
class MusicPiece:
    """The result of a music job, as JSON in callbacks, answers and the job store."""

    caption: Caption
    plan: MusicPlan
    engine_used: str
    engine_version: str
    license: str
    fallback_reason: Text | None  # why an engine or a seed before this one was given up
    duration: float  # seconds
    measurements: dict[str, float]  # of the mastered piece
    files: dict[str, int]  # bytes by name: picture.jpg, caption.json, plan.json, music.mp3, music.flac, music.mid
    page_url: str
    audio_url: str
    download_url: str
    stage_seconds: dict[str, float]
    notes: tuple[Text, ...] = ()
    stored: dict[str, str] = field(default_factory=dict)  # keys in the artefact store, by the names of `files`
