"""`INSTRUMENTS`: what a plan may name, and `named_instruments`, which finds them in English and Korean text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from serve_app.messages import Locale, instrument_name


class Role(StrEnum):
    """What an instrument does in a piece."""

    LEAD = "lead"  # the melody
    CHORDS = "chords"  # plucked or struck figures
    PAD = "pad"  # held chords
    BASS = "bass"
    DRUMS = "drums"


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument.

    Attributes:
        name: English, as in plans.
        program: of General MIDI, counted from 0; drums have none.
        roles: what it can do.
        valence: of the feeling that it fits best, -1 to 1.
        arousal: likewise.
        center: MIDI pitch around which it plays a melody.
        aliases: other names in text, lower case, of either language.
    """

    name: str
    program: int
    roles: frozenset[Role]
    valence: float
    arousal: float
    center: int = 70
    aliases: tuple[str, ...] = ()

    @property
    def korean(self) -> str:
        """The name in Korean."""
        return instrument_name(self.name, Locale.KO)


_LEAD, _BOTH, _PAD = frozenset({Role.LEAD}), frozenset({Role.LEAD, Role.CHORDS}), frozenset({Role.PAD})
_BOWED = frozenset({Role.LEAD, Role.PAD})

_ALL = (
    Instrument("piano", 0, _BOTH, 0.0, -0.1, 72),
    Instrument("electric piano", 4, _BOTH, 0.2, 0.2, 70, ("rhodes", "전자 피아노")),
    Instrument("music box", 10, _LEAD, 0.5, -0.7, 79),
    Instrument("glockenspiel", 9, _LEAD, 0.8, 0.2, 82, ("bell", "실로폰")),
    Instrument("vibraphone", 11, _BOTH, 0.3, -0.4, 70),
    Instrument("marimba", 12, _BOTH, 0.6, 0.4, 69),
    Instrument("kalimba", 108, _BOTH, 0.6, -0.1, 72),
    Instrument("acoustic guitar", 25, _BOTH, 0.5, 0.2, 67, ("guitar", "ukulele", "기타", "우쿨렐레")),
    Instrument("harp", 46, _BOTH, 0.4, -0.6, 72),
    Instrument("gayageum", 107, _BOTH, -0.1, -0.3, 67, ("koto", "거문고")),
    Instrument("flute", 73, _LEAD, 0.5, -0.2, 76, ("플룻", "대금")),
    Instrument("clarinet", 71, _LEAD, -0.1, -0.3, 68),
    Instrument("violin", 40, _LEAD, -0.3, 0.3, 74, ("fiddle", "해금")),
    Instrument("cello", 42, _LEAD, -0.6, -0.4, 57),
    Instrument("french horn", 60, _LEAD, -0.3, 0.6, 62, ("horn",)),
    Instrument("trumpet", 56, _LEAD, 0.5, 0.8, 70, ("brass",)),
    Instrument("synth lead", 81, _LEAD, -0.1, 0.8, 72, ("synthesizer", "신시사이저")),
    Instrument("strings", 48, _BOWED, -0.2, 0.1, 70, ("orchestra", "오케스트라", "스트링")),
    Instrument("synth pad", 89, _PAD, 0.0, 0.2, 64, ("pad",)),
    Instrument("organ", 19, _PAD, -0.4, 0.2, 64),
    Instrument("double bass", 32, frozenset({Role.BASS}), 0.0, -0.2, 40, ("upright bass", "더블베이스")),
    Instrument("electric bass", 33, frozenset({Role.BASS}), 0.1, 0.4, 40, ("bass guitar", "bass", "베이스")),
    Instrument("synth bass", 38, frozenset({Role.BASS}), -0.2, 0.8, 38),
    Instrument("drums", 0, frozenset({Role.DRUMS}), 0.1, 0.5, 40, ("drum", "percussion", "타악기")),
)
INSTRUMENTS = {instrument.name: instrument for instrument in _ALL}

_OWNERS = {alias: each.name for each in _ALL for alias in (each.name, each.korean.replace(" ", r"\s*"), *each.aliases)}
# The longest alias first: "electric piano" is not a piano.
_NAMES = "|".join(sorted((alias.replace(" ", r"\s+") for alias in _OWNERS), key=len, reverse=True))
_FOUND = re.compile(
    rf"(?P<no>\b(?:no|without|not)\s+(?:any\s+)?)?(?<![a-z])(?P<name>{_NAMES})s?(?![a-z])"
    r"(?P<not>\s*(?:은|는|이|가|을|를)?\s*(?:없이|없는|없게|빼고|제외))?"
)
_BY_PATTERN = [(re.compile(alias.replace(" ", r"\s+")), name) for alias, name in _OWNERS.items()]


def named_instruments(texts: Iterable[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the instruments that the texts name, in order, and those that they rule out ("no drums", "드럼 없이")."""
    wanted: dict[str, None] = {}
    unwanted = set()
    for text in texts:
        for found in _FOUND.finditer(text.lower()):
            name = next(name for pattern, name in _BY_PATTERN if pattern.fullmatch(found["name"]))
            if found["no"] or found["not"]:
                unwanted.add(name)
            else:
                wanted[name] = None
    return tuple(name for name in wanted if name not in unwanted), frozenset(unwanted)


def roles_of(names: Iterable[str]) -> dict[Role, Instrument]:
    """Return who does what: the first instrument leads, each other one takes the first role that is free.

    Names that are not in `INSTRUMENTS` are left out.
    """
    taken: dict[Role, Instrument] = {}
    for instrument in (INSTRUMENTS[name] for name in names if name in INSTRUMENTS):
        free = [role for role in Role if role in instrument.roles and role not in taken]
        if free:
            taken[free[0]] = instrument
    return taken
