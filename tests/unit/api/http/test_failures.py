"""How each error of the tree is told, in both languages."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from serve_app import errors
from serve_app.api.http.failures import describe
from serve_app.errors import Overloaded, ServeAppError
from serve_app.messages import Locale

CONTRACT_CODES = {
    "DOWNLOAD_ERROR",
    "AUDIO_EXTRACTION_ERROR",
    "PROCESSING_ERROR",
    "MODEL_LOADING_ERROR",
    "GPU_MEMORY_ERROR",
}


def tree(root: type[ServeAppError] = ServeAppError) -> Iterator[type[ServeAppError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:  # Ray makes subclasses of them, too
            yield from tree(kind)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree(kind: type[ServeAppError]) -> None:
    failure = describe(kind("the detail"), Locale.KO)
    assert (failure.status, failure.code) == (kind.http_status, kind.code)
    assert failure.contract_code == (kind.code if kind.code in CONTRACT_CODES else "PROCESSING_ERROR")
    assert failure.message.endswith("the detail")
    # a sentence of the contract before the detail, where the code is one of its table
    assert (failure.message != "the detail") == (kind.code in CONTRACT_CODES)
    assert ("Retry-After" in failure.headers) == (kind.http_status in (429, 503))


@pytest.mark.parametrize(
    ("locale", "message"),
    [
        (Locale.KO, "비디오 파일을 다운로드할 수 없습니다: 404 Not Found"),
        (Locale.EN, "The video file could not be downloaded: 404 Not Found"),
    ],
)
def test_language_of_the_contracts_messages(locale: Locale, message: str) -> None:
    assert describe(errors.DownloadError("404 Not Found"), locale).message == message


@pytest.mark.parametrize(("retry_after_s", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (120.0, "120")])
def test_retry_after_is_whole_seconds_rounded_up(retry_after_s: float, header: str) -> None:
    assert describe(Overloaded("full", retry_after_s), Locale.KO).headers == {"Retry-After": header}


def test_an_error_over_a_handle_is_told_by_its_class() -> None:
    """Ray raises a subclass made on the spot; what counts is what it inherits."""

    class RayTaskErrorJobNotFound(errors.JobNotFound):
        pass

    failure = describe(RayTaskErrorJobNotFound("no job a"), Locale.KO)
    assert (failure.status, failure.code, failure.message) == (404, "JOB_NOT_FOUND", "no job a")


def test_validation_errors_keep_only_what_json_can_tell() -> None:
    error = RequestValidationError(
        [
            {"type": "missing", "loc": ("body", "a\ud800"), "msg": "m", "input": math.nan, "ctx": {"error": object()}},
            {"type": "x", "loc": ("body", 3, "b"), "msg": "n", "input": "https://h/?signature=s"},
        ]
    )
    failure = describe(error, Locale.KO)
    assert failure.fields == [
        {"type": "missing", "loc": ["body", "a?"], "msg": "m"},
        {"type": "x", "loc": ["body", 3, "b"], "msg": "n"},
    ]
    assert failure.message == "body.a?: m; body.3.b: n"


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "BAD_REQUEST"), (413, "REQUEST_TOO_LARGE"), (415, "UNSUPPORTED_MEDIA_TYPE"), (418, "HTTP_418")],
)
def test_http_errors_have_stable_codes(status: int, code: str) -> None:
    failure = describe(HTTPException(status, "why", {"Allow": "GET"}), Locale.KO)
    assert (failure.status, failure.code, failure.message, failure.headers) == (status, code, "why", {"Allow": "GET"})


@pytest.mark.parametrize("error", [RuntimeError("hunter2"), OSError(2, "hunter2"), KeyError("hunter2")])
def test_what_is_not_ours_says_nothing_of_its_text(error: Exception) -> None:
    failure = describe(error, Locale.EN)
    assert (failure.status, failure.code, failure.contract_code) == (500, "INTERNAL_ERROR", "PROCESSING_ERROR")
    assert "hunter2" not in failure.message
