"""Words of a plan: the prompt of engines that read one, and a sentence for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

from serve_app.messages import Locale, instrument_name, mode_name
from serve_app.models.untrusted_text import clean_text
from serve_app.results import MusicPlan

_MAX_PROMPT_LETTERS = 300
_MAX_CALLER_LETTERS = 100
_END = "instrumental, no vocals"

_TEMPO_WORDS = ((66, "very slow"), (84, "slow"), (104, "moderate"), (122, "lively"), (999, "fast"))
# By valence (low, middle, high) and arousal (low, middle, high): a genre, and a mood in two words.
_GENRES = (
    (
        ("slow chamber music", "sad, lonely"),
        ("melancholic folk", "wistful, serious"),
        ("dark cinematic", "tense, driven"),
    ),
    (("ambient", "calm, floating"), ("lo-fi hip hop", "thoughtful, steady"), ("electronic", "restless, energetic")),
    (
        ("acoustic lullaby", "peaceful, tender"),
        ("acoustic folk", "warm, friendly"),
        ("upbeat indie pop", "joyful, bright"),
    ),
)


def make_prompt(
    *,
    valence: float,
    arousal: float,
    key: str,
    mode: str,
    tempo_bpm: int,
    metre: str,
    instruments: Sequence[str],
    mood_words: Sequence[str],
    caller: str,
) -> str:
    """Return the English prompt: genre, instruments, tempo, key, mood; at most 300 characters.

    `caller`'s words are in it if they are ASCII: the models read English. Both they and `mood_words` are untrusted:
    control characters are removed and the length is cut.
    """
    genre, mood = _GENRES[_third(valence)][_third(arousal)]
    words = [word for word in (clean_text(word, 20) for word in mood_words[:3]) if re.fullmatch(r"[a-zA-Z -]+", word)]
    slow = next(word for limit, word in _TEMPO_WORDS if tempo_bpm <= limit)
    caller = clean_text(caller, _MAX_CALLER_LETTERS)
    parts = [
        f"{genre} with {_joined(instruments[:4])}",
        f"{slow} tempo, {tempo_bpm} bpm, {metre}",
        f"{key} {mode_name(mode, Locale.EN).lower()}",
        f"{', '.join(words) or mood} mood",
        _END,
    ]
    if caller.isascii() and caller:
        parts.insert(1, caller)
    return ", ".join(parts)[:_MAX_PROMPT_LETTERS]


def plan_sentence(plan: MusicPlan, locale: Locale) -> str:
    """Return the plan in a line: "D Dorian, 84 bpm, piano and strings", "D 도리안, 84 BPM, 피아노, 현악기"."""
    mode = mode_name(plan.mode, locale)
    if locale is Locale.KO:
        names = ", ".join(instrument_name(name, locale) for name in plan.instruments)
        return f"{plan.key} {mode}, {plan.tempo_bpm} BPM, {names}"
    return f"{plan.key} {mode}, {plan.tempo_bpm} bpm, {_joined(plan.instruments)}"


def _third(value: float) -> int:
    """Return 0, 1 or 2: where in [-1, 1] the value lies."""
    return 0 if value < -0.25 else 2 if value > 0.25 else 1


def _joined(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
