"""`Failure`: one description of what went wrong, and a body for each kind of route.

    our own routes       {"error": {"code", "message", "request_id"}}
    the contract's       the same, and `detail` as FastAPI writes it, which today's clients read
    POST /transcribe     the contract's answer with `success: false`, `error`, `error_code`
    /v1/…                {"error": {"message", "type", "param", "code"}}, as OpenAI's clients read it

The class of a route answers its failures; `handle_unrouted` answers those outside any route (an unknown path, a wrong
method).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from serve_app import messages
from serve_app.api.http.access import SECURITY_SCHEMES, Access, add_rate_headers, challenge, declared_scope
from serve_app.api.http.options import ApiSettings
from serve_app.api.http.request_context import UNEXPECTED, request_id_of, route_path
from serve_app.api.http.requests import add_ignored_header, is_multipart, limited
from serve_app.api.http.wrong_fields import foreign_sentence, wrong_fields
from serve_app.errors import CallbackRefused, InvalidRequest, Overloaded, ServeAppError, Unavailable, storage_fault
from serve_app.sentences import Locale, translated

_log = logging.getLogger(__name__)

OPENAI_PREFIX = "/v1"
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody receives it, it stands in the access log
DEFAULT_RETRY_AFTER_S = 30  # for a 503 that does not say more: a model that is being loaded again

# not HTTPStatus.name: Python renamed some of them between versions, and clients compare these
_STATUS_CODES = {
    400: "BAD_REQUEST",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    421: "MISDIRECTED_REQUEST",
}


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="stable name of the failure")
    message: str = Field(description="a sentence for people; do not parse it")
    request_id: str = Field(description="quote it when you report the failure; `x-request-id` has it too")


class ErrorBody(BaseModel):
    """Body of a failure."""

    error: ErrorDetail


class FileFailureView(ErrorBody):
    """One of several files, which failed."""

    filename: str


class ContractErrorBody(ErrorBody):
    """Body of a failure, with `detail` for clients that read FastAPI's."""

    detail: str | list[dict[str, Any]] = Field(
        description="as FastAPI writes it: a sentence, or what is wrong with each field",
        examples=[[{"type": "missing", "loc": ["body", "job_id"], "msg": "Field required"}]],
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure, ready to be sent.

    Attributes:
        code: stable name, from the error tree or the HTTP status.
        contract_code: the nearest of a job's five error codes.
        message: sentence for the client.
        fields: FastAPI's list of the request's malformed fields; None for other failures.
        headers: e.g. Retry-After.
    """

    status: int
    code: str
    contract_code: str
    message: str
    fields: list[dict[str, Any]] | None
    headers: Mapping[str, str]


def describe(error: Exception, locale: Locale) -> Failure:
    """Describe any exception; the text of foreign ones stays in the log."""
    error = storage_fault(error) or error  # e.g. a full disk, met by a form's files
    fields: list[dict[str, Any]] | None = None
    headers: dict[str, str] = {}
    if isinstance(error, ServeAppError):
        status, code = error.http_status, error.code
        in_contract = messages.error_code(error) == code
        detail = translated(error.detail, locale)
        message = messages.error_message(error, locale) if in_contract else detail or type(error).__name__
        if isinstance(error, InvalidRequest):
            location = ["body", "fastapi_base_url"] if isinstance(error, CallbackRefused) else ["body"]
            fields = [{"type": code.lower(), "loc": location, "msg": message}]
    elif isinstance(error, RequestValidationError):
        status, code = HTTPStatus.UNPROCESSABLE_ENTITY, InvalidRequest.code
        fields = wrong_fields(error.errors(), locale)
        message = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in fields)
    elif isinstance(error, HTTPException):
        status, code = error.status_code, _STATUS_CODES.get(error.status_code, f"HTTP_{error.status_code}")
        message = translated(foreign_sentence(error.detail), locale)
        headers.update(error.headers or {})
    else:
        status, code = HTTPStatus.INTERNAL_SERVER_ERROR, ServeAppError.code
        message = translated(UNEXPECTED, locale)
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        wait_s = error.retry_after_s if isinstance(error, Overloaded) else DEFAULT_RETRY_AFTER_S
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    return Failure(int(status), code, messages.error_code(error), message, fields, headers)


def log_failure(failure: Failure, request: Request, error: Exception) -> None:
    """Log a failure of the server, with its traceback."""
    if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        if isinstance(error, Unavailable):  # foreseen: a sentence is enough, and there may be many
            _log.error("request %s failed: %s: %s", request_id_of(request.scope), type(error).__name__, error.detail)
        else:
            _log.error("request %s failed", request_id_of(request.scope), exc_info=error)


def error_body(failure: Failure, request: Request) -> dict[str, Any]:
    """Return the body of our own routes."""
    return {"error": {"code": failure.code, "message": failure.message, "request_id": request_id_of(request.scope)}}


def failed_item(filename: str, failure: Failure, request: Request, error: Exception) -> dict[str, Any]:
    """Log the failure of one of several files, and return its item of the answer."""
    log_failure(failure, request, error)
    return {"filename": filename, **error_body(failure, request)}


class OpenAIErrorDetail(BaseModel):
    """A failure, as OpenAI's clients read it."""

    message: str = Field(description="a sentence for people; do not parse it")
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`")
    param: str | None = Field(description="the field that is wrong")
    code: str = Field(description="stable name of the failure, e.g. `model_not_found`")


class OpenAIErrorBody(BaseModel):
    """Body of a failure on OpenAI's routes."""

    error: OpenAIErrorDetail


def openai_error_body(failure: Failure, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return the body of OpenAI's routes; `code` and `param` are the failure's own by default."""
    if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    else:
        kind = "rate_limit_error" if failure.status == HTTPStatus.TOO_MANY_REQUESTS else "invalid_request_error"
    if param is None and failure.fields:
        param = next((str(part) for part in failure.fields[0]["loc"][1:]), None)
    return {"error": {"message": failure.message, "type": kind, "param": param, "code": code or failure.code.lower()}}


_KEY_FAILURES: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid API key, where the operator asks for keys"},
    403: {"description": "The API key lacks the scope for this, or a page of another site sent it"},
}


class ApiRoute(APIRoute):
    """A route of our own; use it for every route you add. Admits callers, bounds the body and answers failures.

    `scope` is what its endpoint declares (`access.needs`, `access.open_to_all`).
    """

    takes_uploads = False

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.scope = declared_scope(endpoint)
        if self.scope is not None:
            options["responses"] = _KEY_FAILURES | (options.get("responses") or {})
            security = [{scheme: [self.scope] if scheme == "bearer" else []} for scheme in SECURITY_SCHEMES]
            options["openapi_extra"] = {"security": security} | (options.get("openapi_extra") or {})
        super().__init__(path, endpoint, **options)

    def max_bytes(self, request: Request, settings: ApiSettings) -> int:
        """Return how long a request's body may be: a form with a recording may be longer than JSON."""
        return settings.max_upload_bytes if self.takes_uploads and is_multipart(request) else settings.max_body_bytes

    def locale(self, request: Request, settings: ApiSettings) -> Locale:
        """Return the language of a failure."""
        return settings.locale

    def describe(self, error: Exception, locale: Locale) -> Failure:
        return describe(error, locale)

    def failure_content(self, failure: Failure, request: Request) -> dict[str, Any]:
        return error_body(failure, request)

    def failure_response(self, failure: Failure, request: Request) -> Response:
        return JSONResponse(self.failure_content(failure, request), failure.status, dict(failure.headers))

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler, so that each route answers failures in its own form."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            settings: ApiSettings = request.app.state.settings
            access: Access = request.app.state.access
            try:
                await access.admit(request, self.scope)
                response = await handle(limited(request, self.max_bytes(request, settings)))
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            except Exception as error:
                failure = self.describe(error, self.locale(request, settings))
                if failure.status == HTTPStatus.UNAUTHORIZED:
                    failure = replace(failure, headers={**failure.headers, "WWW-Authenticate": challenge(request)})
                log_failure(failure, request, error)
                response = self.failure_response(failure, request)
            add_rate_headers(request, response)
            add_ignored_header(request, response)
            return response

        return guarded


class ContractRoute(ApiRoute):
    """A route kept from the services that serve_app replaces; add none. Its failures have FastAPI's `detail` too."""

    def failure_content(self, failure: Failure, request: Request) -> dict[str, Any]:
        detail = failure.message if failure.fields is None else failure.fields
        return {"detail": detail, **error_body(failure, request)}


async def handle_unrouted(request: Request, error: Exception) -> Response:
    """Answer what failed outside any route."""
    failure = describe(error, request.app.state.settings.locale)
    for_openai = route_path(request.scope).startswith(f"{OPENAI_PREFIX}/")
    content = openai_error_body(failure) if for_openai else error_body(failure, request)
    return JSONResponse(content, failure.status, dict(failure.headers))


def error_responses(
    *statuses: int, body: type[BaseModel] = ErrorBody, own: Mapping[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of a route's failures; `own` describes those that mean something else there."""
    meanings = {
        400: "`DOWNLOAD_ERROR`: the address can't be fetched",
        403: "A page of another site sent this, or the API key lacks the scope for it",
        404: "No job has this id",
        406: "`Accept` asks for a kind of answer that this request can't have",
        413: "The body, or the file, is too large",
        415: "The body is of a type that this route does not take",
        422: "The request is malformed; each wrong field is named",
        429: "A queue is full; try again after `Retry-After` seconds",
        503: "Not up yet, or too busy; try again after `Retry-After` seconds",
    }
    described = {status: meanings[status] for status in statuses} | dict(own or {})
    return {status: {"model": body, "description": described[status]} for status in sorted(described)}
