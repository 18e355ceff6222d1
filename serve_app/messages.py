"""The fixed API's user-facing sentences, Korean by default and English by setting. Imports nothing heavy."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from serve_app.errors import ServeAppError
from serve_app.redaction import without_places
from serve_app.sentences import Locale, translated


class JobKind(StrEnum):
    """What a job makes."""

    VIDEO = "video"
    MUSIC = "music"


class Stage(IntEnum):
    """A reported point of a video job; the value is its progress in percent."""

    DOWNLOADED = 10
    DETECTING_SPEECH = 25
    DIARIZING = 40
    TRANSCRIBING = 60
    RECOGNIZING_EMOTION = 75
    MERGING = 90
    COMPLETED = 100


class MusicStage(IntEnum):
    """A reported point of a music job; the value is its progress in percent, which moves on within COMPOSING."""

    PICTURE_READY = 5
    CAPTIONING = 10
    PLANNING = 25
    COMPOSING = 30
    MASTERING = 80
    ENCODING = 90
    PUBLISHING = 95
    COMPLETED = 100


# Korean and English
_STAGES: dict[JobKind, dict[int, tuple[str, str]]] = {
    JobKind.VIDEO: {
        Stage.DOWNLOADED: ("비디오 다운로드 완료", "Video downloaded"),
        Stage.DETECTING_SPEECH: ("음성 구간 감지 중...", "Detecting speech..."),
        Stage.DIARIZING: ("화자 식별 중...", "Identifying speakers..."),
        Stage.TRANSCRIBING: ("음성을 텍스트로 변환 중...", "Transcribing speech..."),
        Stage.RECOGNIZING_EMOTION: ("감정 분석 중...", "Recognizing emotion..."),
        Stage.MERGING: ("결과 정리 중...", "Merging results..."),
        Stage.COMPLETED: ("분석 완료", "Analysis completed"),
    },
    JobKind.MUSIC: {
        MusicStage.PICTURE_READY: ("이미지 준비 완료", "Picture ready"),
        MusicStage.CAPTIONING: ("이미지 설명을 만드는 중...", "Describing the picture..."),
        MusicStage.PLANNING: ("곡을 구상하는 중...", "Planning the music..."),
        MusicStage.COMPOSING: ("음악을 만드는 중...", "Making the music..."),
        MusicStage.MASTERING: ("음량을 맞추고 확인하는 중...", "Adjusting and checking the sound..."),
        MusicStage.ENCODING: ("음악 파일을 만드는 중...", "Encoding the music..."),
        MusicStage.PUBLISHING: ("음악을 저장하는 중...", "Storing the music..."),
        MusicStage.COMPLETED: ("음악이 완성되었습니다", "The music is ready"),
    },
}
COMPLETED = 100
_ACCEPTED = {
    JobKind.VIDEO: ("비디오 처리가 시작되었습니다", "Video processing has started"),
    JobKind.MUSIC: ("음악 생성이 시작되었습니다", "The music is being made"),
}
_QUEUED = ("대기 중", "Queued")
_UNREADABLE = (
    "이 버전이 읽을 수 없는 작업입니다. 이 작업을 저장한 버전이 처리합니다",
    "This version can't read the job; a runner of the version that stored it takes it",
)
_CANCELLED = ("작업이 취소되었습니다", "The job was cancelled")
_ERRORS = {
    "DOWNLOAD_ERROR": ("비디오 파일을 다운로드할 수 없습니다", "The video file could not be downloaded"),
    "AUDIO_EXTRACTION_ERROR": ("오디오 추출 실패", "Audio extraction failed"),
    "PROCESSING_ERROR": ("처리 중 오류가 발생했습니다", "An error occurred during processing"),
    "MODEL_LOADING_ERROR": ("모델을 불러올 수 없습니다", "A model could not be loaded"),
    "GPU_MEMORY_ERROR": ("GPU 메모리가 부족합니다", "Out of GPU memory"),
}
_MUSIC_ERRORS = _ERRORS | {
    "DOWNLOAD_ERROR": ("이미지를 다운로드할 수 없습니다", "The picture could not be downloaded"),
}
# of plans of music
_MODES = {
    "lydian": ("리디안", "Lydian"),
    "ionian": ("장조", "major"),
    "mixolydian": ("믹솔리디안", "Mixolydian"),
    "dorian": ("도리안", "Dorian"),
    "aeolian": ("단조", "minor"),
    "phrygian": ("프리지안", "Phrygian"),
}
_INSTRUMENTS_KO = {
    "piano": "피아노",
    "electric piano": "일렉트릭 피아노",
    "music box": "오르골",
    "glockenspiel": "글로켄슈필",
    "vibraphone": "비브라폰",
    "marimba": "마림바",
    "kalimba": "칼림바",
    "acoustic guitar": "어쿠스틱 기타",
    "harp": "하프",
    "gayageum": "가야금",
    "flute": "플루트",
    "clarinet": "클라리넷",
    "violin": "바이올린",
    "cello": "첼로",
    "french horn": "호른",
    "trumpet": "트럼펫",
    "synth lead": "신스 리드",
    "strings": "현악기",
    "synth pad": "신스 패드",
    "organ": "오르간",
    "double bass": "콘트라베이스",
    "electric bass": "베이스 기타",
    "synth bass": "신스 베이스",
    "drums": "드럼",
}


def _in(locale: Locale, sentences: tuple[str, str]) -> str:
    return sentences[locale is Locale.EN]


def stage_message(kind: JobKind, progress: int, locale: Locale) -> str:
    """Return the sentence of a job's progress in percent: that of the last stage it has reached."""
    reached = [stage for stage in _STAGES[kind] if stage <= progress]
    return _in(locale, _STAGES[kind][max(reached)]) if reached else accepted_message(kind, locale)


def accepted_message(kind: JobKind, locale: Locale) -> str:
    """Return the sentence that answers a submitted job."""
    return _in(locale, _ACCEPTED[kind])


def queued_message(locale: Locale) -> str:
    """Return the sentence of a job that no runner has taken yet."""
    return _in(locale, _QUEUED)


def unreadable_message(locale: Locale) -> str:
    """Return the sentence of a job that another version of this program stored."""
    return _in(locale, _UNREADABLE)


def cancelled_message(locale: Locale) -> str:
    return _in(locale, _CANCELLED)


def error_code(error: BaseException) -> str:
    """Return the fixed API's code of a failure; an error without one is a PROCESSING_ERROR."""
    code = error.code if isinstance(error, ServeAppError) else ""
    return code if code in _ERRORS else "PROCESSING_ERROR"


def error_message(error: BaseException, locale: Locale, kind: JobKind = JobKind.VIDEO) -> str:
    """Return the fixed API's sentence for a failure: `<what failed>: <detail>`.

    The text of a foreign error stays out of it and goes into the log: it may hold paths or secrets. The detail is
    `shown`.
    """
    sentence = error_sentence(error_code(error), locale, kind)
    detail = shown(error.detail, locale) if isinstance(error, ServeAppError) else type(error).__name__
    return f"{sentence}: {detail}" if detail else sentence


def shown(text: str, locale: Locale) -> str:
    """Return a text in a language, without secrets and local paths (`redaction.without_places`)."""
    return without_places(translated(text, locale))


def error_sentence(code: str, locale: Locale, kind: JobKind) -> str:
    """Return the sentence that begins the error message of a code, one of those that `error_code` returns."""
    return _in(locale, (_MUSIC_ERRORS if kind is JobKind.MUSIC else _ERRORS)[code])


def error_message_in(locale: Locale, code: str | None, message: str | None, kind: JobKind) -> str:
    """Return a stored error message with its sentence in another language; the detail stays in the job's language."""
    message = message or ""
    if code not in _ERRORS:
        return message
    for stored in Locale:
        sentence = error_sentence(code, stored, kind)
        if message == sentence or message.startswith(f"{sentence}: "):
            return error_sentence(code, locale, kind) + message.removeprefix(sentence)
    return message


def mode_name(mode: str, locale: Locale) -> str:
    """Return the name of a plan's mode; one that is unknown here keeps its own."""
    return _in(locale, _MODES.get(mode, (mode, mode)))


def instrument_name(instrument: str, locale: Locale) -> str:
    """Return the name of a plan's instrument; one that is unknown here keeps its own."""
    return _INSTRUMENTS_KO.get(instrument, instrument) if locale is Locale.KO else instrument
