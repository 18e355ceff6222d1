"""Which kind of answer a client would rather have (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

_WEIGHT = re.compile(r"(?:0(?:\.\d*)?|1(?:\.0*)?|\.\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Range:
    """One entry of an Accept header, e.g. `audio/*;q=0.8`."""

    kind: str
    subtype: str
    weight: float

    def specificity(self, media_type: str) -> int:
        """Return how closely the entry names a media type: 2 by its name, 1 by its kind, 0 by `*/*`, -1 not at all."""
        kind, _, subtype = media_type.partition("/")
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if (self.kind, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.kind, self.subtype) == ("*", "*") else -1


def preferred(request: Request, offers: Sequence[str]) -> str | None:
    """Return the media type that a client would rather have; None if it accepts none of them.

    Where two weigh the same, the one that the client names more closely wins, then the one that is offered first: a
    browser's `*/*` gets the first offer, and `audio/midi, */*` gets MIDI.

    Args:
        request: without an Accept header it takes anything.
        offers: media types, the preferred one first.
    """
    header = ",".join(request.headers.getlist("accept"))
    ranges = [entry for part in header.split(",") if (entry := _parsed(part))]
    if not ranges:
        return offers[0]
    ranked = []
    for place, offer in enumerate(offers):
        # the entry that names a type most closely decides about it: `*/*, audio/midi;q=0` refuses MIDI
        closeness, weight = max((entry.specificity(offer), entry.weight) for entry in ranges)
        if closeness >= 0 and weight > 0:
            ranked.append((weight, closeness, -place))
    return offers[-max(ranked)[2]] if ranked else None


def _parsed(text: str) -> _Range | None:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    kind, slash, subtype = name.partition("/")
    if not (kind and slash and subtype):
        return None
    weights = [value for key, _, value in (each.partition("=") for each in parameters) if key.strip() == "q"]
    if not weights:
        return _Range(kind, subtype, 1.0)
    text = weights[0].strip()
    return _Range(kind, subtype, float(text)) if _WEIGHT.fullmatch(text) else None
