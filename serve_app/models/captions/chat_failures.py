"""`failure_of`: what an OpenAI-compatible endpoint's refusal means: passing, permanent, or a refusal of the picture."""

from __future__ import annotations

import re

from serve_app.errors import CaptionRefused, ModelError, ProcessingError
from serve_app.models.remote_http import Answer, PassingFailure, is_passing, retry_after_s, told_by
from serve_app.sentences import Sentence

# 429 with one of these in the body: no wait helps
_OUT_OF_QUOTA = re.compile(r"insufficient_quota|billing|current quota|credit balance|payment", re.IGNORECASE)
_FILTERED = re.compile(r"content_filter|content_policy|content management policy|safety system", re.IGNORECASE)
_REMEDIES = {
    401: Sentence("correct the key (SERVE_APP_CAPTION_API_KEY)"),
    403: Sentence("give the key the right to use this model"),
    404: Sentence("correct captions.chat.base_url or captions.chat.model"),
}


class EndpointFailure(ProcessingError):
    """Raised when the endpoint has no caption for any picture, for a while."""


def failure_of(answer: Answer) -> ModelError:
    """Return the error of an answer that is not a success."""
    status, words = answer.status, told_by(answer.body)
    told = f": {answer.told}" if answer.told else ""
    if 300 <= status < 400:
        return EndpointFailure(
            Sentence(
                "The caption endpoint redirects ({status}); set captions.chat.base_url to the address where it answers",
                status=status,
            )
        )
    if status == 429 and _OUT_OF_QUOTA.search(words):
        return EndpointFailure(
            Sentence("The caption endpoint's quota is used up{told}; raise it or set another key", told=told)
        )
    if is_passing(status):
        return PassingFailure(
            Sentence("The caption endpoint answers {status}{told}", status=status, told=told),
            retry_after_s(answer.headers),
        )
    if _FILTERED.search(words):
        return CaptionRefused(Sentence("The caption endpoint's filter refused the picture{told}", told=told))
    if status in _REMEDIES:
        return EndpointFailure(
            Sentence(
                "The caption endpoint answers {status}{told}; {remedies}",
                status=status,
                told=told,
                remedies=_REMEDIES[status],
            )
        )
    return ProcessingError(Sentence("The caption endpoint answers {status}{told}", status=status, told=told))
