"""Requests of the image classifiers."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.api.http.requests import MediaUrl, WireRequest

MAX_FILES = 32  # more are better sent in several requests: one lost connection costs them all


class ImageLinks(WireRequest, frozen=True):
    """Pictures by address instead of by upload."""

    image_url: MediaUrl | None = Field(
        default=None, description="`https://`, `http://`, `s3://`; a local path only where the operator allows a folder"
    )
    image_urls: list[MediaUrl] | None = Field(
        default=None, min_length=1, max_length=MAX_FILES, description="several, answered as a batch"
    )

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.image_url is None) == (self.image_urls is None):
            raise PydanticCustomError("image_missing", "Give either image_url or image_urls")
        return self

    @property
    def urls(self) -> list[str]:
        return self.image_urls or [self.image_url or ""]


IMAGE_CONTENT: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {
                "file": {
                    "type": "array",
                    "maxItems": MAX_FILES,
                    "items": {"type": "string", "format": "binary"},
                    "description": "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC; several: a batch",
                }
            },
        }
    },
    "application/json": {"schema": ImageLinks.model_json_schema()},
}
