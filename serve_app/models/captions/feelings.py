"""Words of a feeling, by valence and arousal: the eight directions of Russell's circumplex (1980), and its middle."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Feeling:
    """A feeling in words."""

    words: tuple[str, ...]  # English, lower case
    english: str  # that follow "It feels"
    korean: str  # that precede "느낌"


# counter-clockwise from pleasant; each: mild, strong
_AROUND = (
    (
        Feeling(("pleasant", "mellow"), "pleasant", "기분 좋은"),
        Feeling(("happy", "bright"), "happy and bright", "행복하고 환한"),
    ),
    (
        Feeling(("lively", "cheerful"), "lively and cheerful", "경쾌하고 밝은"),
        Feeling(("joyful", "energetic"), "joyful and full of energy", "신나고 활기찬"),
    ),
    (
        Feeling(("alert", "dynamic"), "alert", "생동감 있는"),
        Feeling(("intense", "powerful"), "intense and powerful", "강렬하고 힘찬"),
    ),
    (
        Feeling(("uneasy", "restless"), "restless", "조금 불안한"),
        Feeling(("tense", "stormy"), "tense and stormy", "긴장되고 격렬한"),
    ),
    (Feeling(("serious", "sombre"), "serious", "진지한"), Feeling(("gloomy", "bleak"), "gloomy", "침울한")),
    (
        Feeling(("wistful", "quiet"), "wistful", "조금 쓸쓸한"),
        Feeling(("melancholy", "lonely"), "melancholy and lonely", "우울하고 쓸쓸한"),
    ),
    (Feeling(("quiet", "still"), "quiet", "조용한"), Feeling(("still", "sleepy"), "very still", "아주 고요한")),
    (
        Feeling(("calm", "gentle"), "calm and gentle", "차분하고 온화한"),
        Feeling(("peaceful", "serene"), "peaceful and serene", "평화롭고 고요한"),
    ),
)
_MIDDLE = Feeling(("neutral", "balanced"), "neutral and balanced", "치우침 없이 담담한")
_FELT, _STRONG = 0.15, 0.6


def feeling_of(valence: float, arousal: float) -> Feeling:
    """Return the words of a mood between -1 and 1."""
    strength = math.hypot(valence, arousal)
    if strength < _FELT:
        return _MIDDLE
    direction = round(math.atan2(arousal, valence) / (math.tau / len(_AROUND))) % len(_AROUND)
    return _AROUND[direction][strength >= _STRONG]
