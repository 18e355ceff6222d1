"""`log_classified`: a line in the log for each picture that was classified."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from starlette.requests import Request

from serve_app.api.http.request_context import request_id_of
from serve_app.services import ImageClassification

# below the access log, whose lines go to the files and not to the terminal: see deployments.replica.process
_log = logging.getLogger("serve_app.access.images")


def log_classified(
    request: Request, task: str, names: Sequence[str], answers: Sequence[ImageClassification | Exception]
) -> None:
    """Log the name, the class, its probability and the weights of each picture that has an answer."""
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, ImageClassification):
            label = answer.scores.label
            _log.info(
                "%s %s: %s, confidence %.4f, %s, request %s",
                task,
                _shown(name),
                label,
                answer.scores.scores[label],
                answer.model_version,
                request_id_of(request.scope),
            )


def _shown(name: str) -> str:
    """Return a caller's name in quotes, as one line whatever is in it."""
    return json.dumps(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name), ensure_ascii=False
    )
