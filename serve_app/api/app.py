"""The HTTP application: one OpenAPI document, one process, one port."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from serve_app import __version__
from serve_app.api import health, weights
from serve_app.api.drums import routes as drums
from serve_app.api.http.access import SECURITY_SCHEMES, Access
from serve_app.api.http.failures import handle_unrouted
from serve_app.api.http.old_clients import OldClientsMiddleware
from serve_app.api.http.options import ApiSettings
from serve_app.api.http.rate_limit import RATE_HEADERS
from serve_app.api.http.request_context import RequestContextMiddleware
from serve_app.api.http.requests import IGNORED_HEADER
from serve_app.api.images import embedding
from serve_app.api.images import routes as images
from serve_app.api.music import routes as music
from serve_app.api.speech import openai_routes
from serve_app.api.speech import routes as speech
from serve_app.api.video import routes as video
from serve_app.services import Services

DOCS_PATH, REDOC_PATH = "/docs", "/redoc"

_DESCRIPTION = """\
Video jobs, speech, images, drums and music behind one address.

**Failures.** Most routes answer `{"error": {"code", "message", "request_id"}}`. Those kept from earlier services add
FastAPI's `detail`; `POST /transcribe` answers `success: false` with `error` and `error_code`; routes under `/v1` answer
as OpenAI's. 429 and 503 carry `Retry-After`.

**API keys.** Where the operator asks for them, send one as `Authorization: Bearer KEY`, `X-API-Key: KEY`, or as the
password of `Authorization: Basic`. 401: no valid key; 403: the key lacks the scope; 429 `RATE_LIMITED`: it has used
up its requests or its jobs. A job belongs to the key that submitted it; to others it does not exist.

| `error_code` of a job | when |
| --- | --- |
| `DOWNLOAD_ERROR` | the URL can't be fetched, is refused, is too large |
| `AUDIO_EXTRACTION_ERROR` | no audio track, not a media file, broken container |
| `PROCESSING_ERROR` | a model stage failed |
| `MODEL_LOADING_ERROR` | a model could not be loaded |
| `GPU_MEMORY_ERROR` | out of GPU memory, and the fall-back failed too |

**Request ids.** Send `x-request-id` (1 to 128 letters, digits, `.`, `_`, `-`) or take the one in the answer.
"""

_TAGS = [
    {"name": "jobs", "description": "Analyse videos in the background; progress and result go to a callback."},
    {"name": "speech", "description": "Transcribe recordings, or analyse files, at once."},
    {"name": "openai", "description": "Speech for OpenAI's clients: set their base URL to this address and `/v1`."},
    {"name": "drums", "description": "Transcribe recordings of drums to General MIDI."},
    {"name": "images", "description": "Classify pictures of containers."},
    {"name": "music", "description": "Make music from pictures in the background; play and download it."},
    {"name": "models", "description": "List the loaded models; replace their weights without downtime."},
    {"name": "health", "description": "For people, load balancers and orchestrators."},
]


def create_app(services: Services, settings: ApiSettings) -> FastAPI:
    """Build an application over services; two applications share nothing."""
    app = FastAPI(
        title="serve-app",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        # clients of the services replaced may leave Content-Type out; `Access` refuses what pages of other sites send
        strict_content_type=False,
        docs_url=DOCS_PATH,
        redoc_url=REDOC_PATH,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.services = services
    app.state.settings = settings
    app.state.access = Access(services.keys, settings)
    for router in (
        video.contract_router,
        video.router,
        speech.router,
        openai_routes.router,
        drums.router,
        images.router,
        embedding.router,
        music.router,
        weights.router,
        health.contract_router,
        health.router,
    ):
        app.include_router(router)
    app.add_exception_handler(HTTPException, handle_unrouted)
    app.add_middleware(OldClientsMiddleware)
    app.add_middleware(
        RequestContextMiddleware,
        page_paths=frozenset({DOCS_PATH, REDOC_PATH}),
        echo_request_id=not settings.proxy_echoes_request_id,
        locale=settings.locale,
    )
    if settings.cors_origins:
        # added last, so outermost: a failure must carry these headers too, or a page can't read it
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-API-Key", "X-Request-ID"],
            expose_headers=[*RATE_HEADERS, "Retry-After", IGNORED_HEADER, "X-Model-Version", "X-Request-ID"],
        )
    document = app.openapi

    def with_schemes() -> dict[str, Any]:
        schema = document()
        schema["components"]["securitySchemes"] = SECURITY_SCHEMES
        return schema

    app.openapi = with_schemes  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    return app
