"""Words of a plan: the prompt of engines that read one, and a sentence for people."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from serve_app.models.music.instruments import INSTRUMENTS
from serve_app.results import MusicPlan

MAX_PROMPT = 300
_MAX_CALLER_WORDS = 100
_END = "instrumental, no vocals"

_TEMPO_WORDS = ((66, "very slow"), (84, "slow"), (104, "moderate"), (122, "lively"), (999, "fast"))
_MODES_KO = {
    "lydian": "리디안",
    "ionian": "장조",
    "mixolydian": "믹솔리디안",
    "dorian": "도리안",
    "aeolian": "단조",
    "phrygian": "프리지안",
}
_MODES_EN = {"ionian": "major", "aeolian": "minor"}
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


def genre_and_mood(valence: float, arousal: float) -> tuple[str, str]:
    """Return a genre and a mood for a feeling."""
    return _GENRES[_third(valence)][_third(arousal)]


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
    """Return the English prompt: genre, instruments, tempo, key, mood; at most `MAX_PROMPT` characters.

    `caller`'s words are in it if they are Latin letters: the models read English. Both they and `mood_words` are
    untrusted: control characters are removed and the length is cut.
    """
    genre, mood = genre_and_mood(valence, arousal)
    words = [word for word in (cleaned(word, 20) for word in mood_words[:3]) if re.fullmatch(r"[a-zA-Z -]+", word)]
    slow = next(word for limit, word in _TEMPO_WORDS if tempo_bpm <= limit)
    caller = cleaned(caller, _MAX_CALLER_WORDS)
    parts = [
        f"{genre} with {_joined(instruments[:4], 'and')}",
        f"{slow} tempo, {tempo_bpm} bpm, {metre}",
        f"{key} {_MODES_EN.get(mode, mode)}",
        f"{', '.join(words) or mood} mood",
        _END,
    ]
    if caller.isascii() and caller:
        parts.insert(1, caller)
    return ", ".join(parts)[:MAX_PROMPT]


def plan_sentence(plan: MusicPlan, locale: str) -> str:
    """Return the plan for people, "D Dorian, 84 bpm, piano and strings"; Korean where `locale` begins with "ko"."""
    if locale.lower().startswith("ko"):
        names = [INSTRUMENTS[name].korean if name in INSTRUMENTS else name for name in plan.instruments]
        return f"{plan.key} {_MODES_KO.get(plan.mode, plan.mode)}, {plan.tempo_bpm} BPM, {', '.join(names)}"
    mode = _MODES_EN.get(plan.mode, plan.mode.capitalize())
    return f"{plan.key} {mode}, {plan.tempo_bpm} bpm, {_joined(plan.instruments, 'and')}"


def cleaned(text: str, length: int) -> str:
    """Return untrusted text in one line: normalised, without control characters, at most `length` characters."""
    plain = "".join(
        " " if unicodedata.category(each)[0] in "CZ" else each for each in unicodedata.normalize("NFKC", text)
    )
    return " ".join(plain.split())[:length].strip()


def _third(value: float) -> int:
    """Return 0, 1 or 2: where in [-1, 1] the value lies."""
    return 0 if value < -0.25 else 2 if value > 0.25 else 1


def _joined(words: Sequence[str], last: str) -> str:
    """Return "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
