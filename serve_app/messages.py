"""The contract's user-facing sentences, Korean by default and English by setting. Imports nothing heavy."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from serve_app.errors import ServeAppError


class Locale(StrEnum):
    """Language of the contract's messages."""

    KO = "ko"
    EN = "en"


class Stage(IntEnum):
    """A reported point of a video job; the value is its progress in percent."""

    DOWNLOADED = 10
    DETECTING_SPEECH = 25
    DIARIZING = 40
    TRANSCRIBING = 60
    RECOGNIZING_EMOTION = 75
    MERGING = 90
    COMPLETED = 100


_STAGES: dict[Locale, dict[Stage, str]] = {
    Locale.KO: {
        Stage.DOWNLOADED: "비디오 다운로드 완료",
        Stage.DETECTING_SPEECH: "음성 구간 감지 중...",
        Stage.DIARIZING: "화자 식별 중...",
        Stage.TRANSCRIBING: "음성을 텍스트로 변환 중...",
        Stage.RECOGNIZING_EMOTION: "감정 분석 중...",
        Stage.MERGING: "결과 정리 중...",
        Stage.COMPLETED: "분석 완료",
    },
    Locale.EN: {
        Stage.DOWNLOADED: "Video downloaded",
        Stage.DETECTING_SPEECH: "Detecting speech...",
        Stage.DIARIZING: "Identifying speakers...",
        Stage.TRANSCRIBING: "Transcribing speech...",
        Stage.RECOGNIZING_EMOTION: "Recognizing emotion...",
        Stage.MERGING: "Merging results...",
        Stage.COMPLETED: "Analysis completed",
    },
}

_ACCEPTED = {Locale.KO: "비디오 처리가 시작되었습니다", Locale.EN: "Video processing has started"}
_QUEUED = {Locale.KO: "대기 중", Locale.EN: "Queued"}
_CANCELLED = {Locale.KO: "작업이 취소되었습니다", Locale.EN: "The job was cancelled"}

_ERRORS: dict[Locale, dict[str, str]] = {
    Locale.KO: {
        "DOWNLOAD_ERROR": "비디오 파일을 다운로드할 수 없습니다",
        "AUDIO_EXTRACTION_ERROR": "오디오 추출 실패",
        "PROCESSING_ERROR": "처리 중 오류가 발생했습니다",
        "MODEL_LOADING_ERROR": "모델을 불러올 수 없습니다",
        "GPU_MEMORY_ERROR": "GPU 메모리가 부족합니다",
    },
    Locale.EN: {
        "DOWNLOAD_ERROR": "The video file could not be downloaded",
        "AUDIO_EXTRACTION_ERROR": "Audio extraction failed",
        "PROCESSING_ERROR": "An error occurred during processing",
        "MODEL_LOADING_ERROR": "A model could not be loaded",
        "GPU_MEMORY_ERROR": "Out of GPU memory",
    },
}


def stage_message(stage: Stage, locale: Locale) -> str:
    """Return the sentence that goes with a progress value."""
    return _STAGES[locale][stage]


def accepted_message(locale: Locale) -> str:
    """Return the sentence that answers a submitted job."""
    return _ACCEPTED[locale]


def queued_message(locale: Locale) -> str:
    """Return the sentence of a job that no runner has taken yet."""
    return _QUEUED[locale]


def cancelled_message(locale: Locale) -> str:
    """Return the sentence of a cancelled job."""
    return _CANCELLED[locale]


def error_code(error: BaseException) -> str:
    """Return the contract's code for a failure; what is not in its table is a PROCESSING_ERROR."""
    code = error.code if isinstance(error, ServeAppError) else ""
    return code if code in _ERRORS[Locale.KO] else "PROCESSING_ERROR"


def error_message(error: BaseException, locale: Locale) -> str:
    """Return the contract's sentence for a failure: `<what failed>: <detail>`.

    An error that is not ours says nothing of its text: that may hold paths or secrets, and belongs in the log.
    """
    sentence = _ERRORS[locale][error_code(error)]
    detail = error.detail if isinstance(error, ServeAppError) else type(error).__name__
    return f"{sentence}: {detail}" if detail else sentence
