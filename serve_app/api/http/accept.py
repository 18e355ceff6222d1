"""What a client would rather have: kinds of answers (`Accept`) and languages (`Accept-Language`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import Request

from serve_app.messages import Locale

JSON, HTML = "application/json", "text/html"


def preferred(request: Request, offers: Sequence[str]) -> str:
    """Return the offer of the highest weight in `Accept`; of equal ones the most closely named, then the first."""
    weights = _weights(request, "accept")

    def rank(offer: str) -> tuple[float, int]:
        for closeness, name in ((2, offer), (1, f"{offer.partition('/')[0]}/*"), (0, "*/*")):
            if name in weights:
                return weights[name], closeness
        return 0.0, 0

    return max(offers, key=rank)


def wants_page(request: Request) -> bool:
    """Return whether `Accept` puts a page above JSON, as a browser's does that sends a form or follows a link."""
    return preferred(request, (JSON, HTML)) == HTML


def preferred_locale(request: Request, default: Locale) -> Locale:
    """Return the language of the highest weight in `Accept-Language`; the default where it names none of ours."""
    weights: dict[str, float] = {}
    for name, weight in _weights(request, "accept-language").items():
        language = name.partition("-")[0]
        weights[language] = max(weight, weights.get(language, 0.0))
    ours: tuple[Locale, ...] = (default, *Locale)
    return max(ours, key=lambda locale: weights.get(locale, 0.0))


def _weights(request: Request, header: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for accepted in ",".join(request.headers.getlist(header)).lower().split(","):
        name, _, parameters = accepted.partition(";")
        weight = re.search(r"\bq\s*=\s*([01](\.\d*)?)", parameters)
        weights[name.strip()] = float(weight[1]) if weight else 1.0
    return weights
