"""Address, headers and signature of a callback, after Standard Webhooks 1.0 (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"
_MIN_KEY_BYTES = 16  # 128 bits: below that a key can be guessed


def callback_url(base: str) -> str:
    """Return the URL that a job's events are sent to."""
    return base.rstrip("/") + "/api/upload-video/result"


def parse_secrets(text: str | None) -> tuple[bytes, ...]:
    """Return the signing keys of a setting: `whsec_<base64>`, several with spaces between while rotating.

    ValueError: a secret is malformed or too short; the message gives its position and never its text.
    """
    keys = []
    for place, secret in enumerate((text or "").split(), start=1):
        try:
            if not secret.startswith(_PREFIX):
                raise ValueError("it does not start with whsec_")
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"webhook secret {place} must be whsec_ followed by base64: {error}") from None
        if len(key) < _MIN_KEY_BYTES:
            raise ValueError(f"webhook secret {place} has {len(key)} bytes; it needs at least {_MIN_KEY_BYTES}")
        keys.append(key)
    return tuple(keys)


def signature(keys: Sequence[bytes], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Return `v1,<base64 of HMAC-SHA256 over id.timestamp.body>` for each key, with spaces between."""
    signed = b".".join((webhook_id.encode(), str(timestamp_s).encode(), body))
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def headers(keys: Sequence[bytes], *, webhook_id: str, seq: int, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return an attempt's headers; without keys there is no signature.

    `webhook_id` is the same at every attempt, so that a receiver can recognise a repetition; `timestamp_s` is not.
    """
    values = {
        "content-type": "application/json",
        "user-agent": "serve_app",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-sequence": str(seq),
    }
    if keys:
        values["webhook-signature"] = signature(keys, webhook_id, timestamp_s, body)
    return values
