"""Swagger UI at /docs and ReDoc at /redoc.

Both load their scripts from a CDN. A machine without one still gets a readable page: the plain list of routes that
stands in the place which the script would fill.
"""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse

DOCS_PATH = "/docs"
REDOC_PATH = "/redoc"
_SWAGGER_PLACE = '<div id="swagger-ui">'
_REDOC_PLACE = "</redoc>"


def add_documentation(app: FastAPI) -> None:
    """Add both pages to an app that was made without them."""

    async def docs(request: Request) -> HTMLResponse:
        page = get_swagger_ui_html(openapi_url=_document_url(request), title=f"{app.title} - Swagger UI")
        return _with_list(page, _SWAGGER_PLACE, _SWAGGER_PLACE + _route_list(request, app.openapi()))

    async def redoc(request: Request) -> HTMLResponse:
        page = get_redoc_html(openapi_url=_document_url(request), title=f"{app.title} - ReDoc", with_google_fonts=False)
        return _with_list(page, _REDOC_PLACE, _route_list(request, app.openapi()) + _REDOC_PLACE)

    app.add_route(DOCS_PATH, docs, include_in_schema=False)
    app.add_route(REDOC_PATH, redoc, include_in_schema=False)


def _document_url(request: Request) -> str:
    return f"{request.scope.get('root_path', '').rstrip('/')}{request.app.openapi_url}"


def _with_list(page: HTMLResponse, place: str, content: str) -> HTMLResponse:
    return HTMLResponse(bytes(page.body).decode().replace(place, content, 1))


def _route_list(request: Request, document: dict[str, Any]) -> str:
    items = [
        f"<dt><code>{method.upper()} {escape(path)}</code> {escape(operation.get('summary', ''))}</dt>"
        f"<dd>{escape(operation.get('description', ''))}</dd>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    link = f'<p>The whole document: <a href="{escape(_document_url(request))}">OpenAPI as JSON</a></p>'
    return f"<h1>{escape(document['info']['title'])}</h1>{link}<dl>{''.join(items)}</dl>"
