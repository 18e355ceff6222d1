"""Conversations made of real speakers, with the truth known: what thresholds are tuned on.

A conversation takes phrases of one to four speakers, gives each turn a little of the variation that a read utterance
lacks (tempo, level, distance), lets turns follow, interrupt and overlap each other, and puts all of it into a studio,
a room with one far microphone, or onto a telephone line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.speaker_embedding import augment
from training.speaker_embedding.speakers import SAMPLE_RATE_HZ, Speaker

PLACES = ("studio", "room", "telephone")

_FRAME = 160
_MIN_PHRASE_S = 0.5
# A pause this long ends a phrase, as it ends a turn constructional unit in the reference of a meeting corpus.
_PAUSE_S = 0.18
_JOINED_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's speech between two of its pauses."""

    start_s: float
    end_s: float
    speaker_id: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """A part of a speaker's utterance, from one pause to the next.

    Attributes:
        samples: (samples,) float32, 16 kHz.
        start_s: where it begins in the utterance.
    """

    samples: np.ndarray
    start_s: float


@dataclass(frozen=True, slots=True)
class PlacedPhrase:
    """Which part of a speaker's utterance is heard when: it tells where in a conversation each word is.

    Attributes:
        speaker_id: whose it is.
        start_s: where it begins in the conversation.
        source_start_s: where it begins in the utterance.
        source_end_s: where it ends in the utterance.
        speed: how much faster than in the utterance it is spoken.
    """

    speaker_id: str
    start_s: float
    source_start_s: float
    source_end_s: float
    speed: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """Audio and its truth.

    Attributes:
        name: unique within a set; tells place, number of speakers and running number.
        place: one of PLACES.
        samples: (samples,) float32, 16 kHz mono.
        turns: in order of start.
        phrases: what the turns are made of.
    """

    name: str
    place: str
    samples: np.ndarray
    turns: tuple[Turn, ...]
    phrases: tuple[PlacedPhrase, ...]

    @property
    def num_speakers(self) -> int:
        """Return how many speakers are heard."""
        return len({turn.speaker_id for turn in self.turns})


def make_set(speakers: tuple[Speaker, ...], per_cell: int, seed: int) -> Iterator[Conversation]:
    """Yield `per_cell` conversations for every place and every number of speakers from one to four."""
    phrases = {speaker.speaker_id: split_phrases(speaker.load()) for speaker in speakers}
    for place in PLACES:
        for num_speakers in (1, 2, 3, 4):
            for number in range(per_cell):
                rng = np.random.default_rng((seed, PLACES.index(place), num_speakers, number))
                chosen = [str(name) for name in rng.choice(sorted(phrases), num_speakers, replace=False)]
                name = f"{place}-{num_speakers}-{number:02d}"
                yield make_conversation(rng, name, place, {speaker: phrases[speaker] for speaker in chosen})


def split_phrases(samples: np.ndarray) -> list[Phrase]:
    """Cut an utterance at its pauses; what comes back begins and ends with speech."""
    num_frames = samples.size // _FRAME
    power = np.square(samples[: num_frames * _FRAME]).reshape(num_frames, _FRAME).mean(axis=1)
    smooth = np.convolve(power, np.ones(5) / 5, mode="same")
    speech = smooth > max(smooth.max() * 10**-3.6, np.quantile(smooth, 0.05) * 4.0)
    phrases, start, silent = [], None, 0
    for frame, active in enumerate([*speech, *[False] * 100]):
        if active:
            start, silent = (frame if start is None else start), 0
        elif start is not None:
            silent += 1
            if silent * _FRAME >= _PAUSE_S * SAMPLE_RATE_HZ:
                end = frame - silent + 1
                if (end - start) * _FRAME >= _MIN_PHRASE_S * SAMPLE_RATE_HZ:
                    part = samples[start * _FRAME : end * _FRAME]
                    phrases.append(Phrase(part, start * _FRAME / SAMPLE_RATE_HZ))
                start = None
    return phrases


def make_conversation(
    rng: np.random.Generator, name: str, place: str, phrases: dict[str, list[Phrase]]
) -> Conversation:
    """Lay the speakers' phrases out in time and put them into a place. Each phrase is heard at most twice."""
    names = list(phrases)
    supply = {speaker: [*_shuffled(rng, own), *_shuffled(rng, own)] for speaker, own in phrases.items()}
    # Some say little: shares of the talk are drawn, not equal.
    shares = rng.dirichlet(np.full(len(names), 2.5)) if len(names) > 1 else np.ones(1)
    target_s = float(rng.uniform(30.0, 60.0))
    placed: list[tuple[float, np.ndarray, str]] = []
    sources: list[PlacedPhrase] = []

    def place_phrase(start_s: float, phrase: Phrase, speaker: str, manner: _Manner) -> float:
        """Put a phrase there and return how long it takes."""
        spoken = manner(phrase.samples)
        placed.append((start_s, spoken, speaker))
        end_s = phrase.start_s + phrase.samples.size / SAMPLE_RATE_HZ
        sources.append(PlacedPhrase(speaker, start_s, phrase.start_s, end_s, manner.speed))
        return spoken.size / SAMPLE_RATE_HZ

    spoken_s = dict.fromkeys(names, 0.0)
    now_s, speaker = float(rng.uniform(0.1, 1.5)), names[int(rng.integers(len(names)))]
    while now_s < target_s and any(supply.values()):
        turn_phrases = [supply[speaker].pop() for _ in range(int(rng.integers(1, 4))) if supply[speaker]]
        manner = _manner(rng)
        turn_start_s = now_s
        for phrase in turn_phrases:
            phrase_s = place_phrase(now_s, phrase, speaker, manner)
            spoken_s[speaker] += phrase_s
            now_s += phrase_s + float(rng.uniform(0.15, 0.5))
        others = [other for other in names if other != speaker and supply[other]]
        if others and now_s - turn_start_s > 2.0 and rng.random() < 0.2:
            listener = others[int(rng.integers(len(others)))]
            shortest = min(supply[listener], key=lambda phrase: phrase.samples.size)
            word = Phrase(shortest.samples[: int(0.7 * SAMPLE_RATE_HZ)], shortest.start_s)
            place_phrase(float(rng.uniform(turn_start_s + 0.5, now_s - 1.0)), word, listener, _manner(rng))
        # Gaps between turns are short, and often negative (Heldner and Edlund 2010: median about 0.1 s, 40 % overlap).
        now_s = max(now_s + float(rng.normal(0.15, 0.55)), turn_start_s + 0.4)
        candidates = [n for n in names if supply[n] and (n != speaker or len(names) == 1)]
        if not candidates:
            break
        lag = np.array([max(shares[names.index(n)] * (now_s + 8.0) - spoken_s[n], 0.3) for n in candidates])
        speaker = candidates[int(rng.choice(len(candidates), p=lag / lag.sum()))]
    samples, turns = _render(rng, place, placed)
    return Conversation(name, place, samples, turns, tuple(sources))


def _shuffled(rng: np.random.Generator, items: list[Phrase]) -> list[Phrase]:
    return [items[index] for index in rng.permutation(len(items))]


class _Manner:
    """How one turn is spoken: tempo and pitch a little off, louder or softer, nearer or farther."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.speed = float(rng.uniform(0.96, 1.04))
        self.gain = 10.0 ** (float(rng.normal(0.0, 2.5)) / 20.0)
        self.seed = int(rng.integers(2**31))

    def __call__(self, phrase: np.ndarray) -> np.ndarray:
        varied = augment.change_speed(phrase, self.speed)
        return augment.equalize(np.random.default_rng(self.seed), varied, 3.0) * self.gain


def _manner(rng: np.random.Generator) -> _Manner:
    return _Manner(rng)


def _render(
    rng: np.random.Generator, place: str, placed: list[tuple[float, np.ndarray, str]]
) -> tuple[np.ndarray, tuple[Turn, ...]]:
    length = int(
        (max(start + spoken.size / SAMPLE_RATE_HZ for start, spoken, _ in placed) + rng.uniform(0.3, 1.5))
        * SAMPLE_RATE_HZ
    )
    tracks: dict[str, np.ndarray] = {}
    turns = []
    for start_s, spoken, speaker in placed:
        track = tracks.setdefault(speaker, np.zeros(length, np.float32))
        first = int(start_s * SAMPLE_RATE_HZ)
        track[first : first + spoken.size] += spoken[: length - first]
        turns.append(Turn(start_s, start_s + spoken.size / SAMPLE_RATE_HZ, speaker))
    decay_s = float(rng.uniform(0.2, 0.7))
    mixed = np.zeros(length, np.float32)
    for track in tracks.values():
        active = track[np.abs(track) > 1e-4]
        track *= 0.05 / augment.rms(active) * 10.0 ** (rng.normal(0.0, 2.0) / 20.0)
        if place == "room":
            track = augment.convolve(track, augment.room_response(rng, (decay_s * 0.9, decay_s * 1.1)))
        elif place == "telephone":
            # Each has a set of their own; the line is shared.
            track = augment.equalize(rng, track, 6.0)
            if rng.random() < 0.5:
                track = augment.convolve(track, augment.room_response(rng, (0.1, 0.4)))
        else:
            track = augment.equalize(rng, track, 2.0)
        mixed += track
    snr_db = {"studio": rng.uniform(25, 45), "room": rng.uniform(10, 30), "telephone": rng.uniform(15, 35)}[place]
    mixed = augment.add_noise(mixed, augment.coloured_noise(rng, length), float(snr_db))
    if place == "room":
        mixed = augment.equalize(rng, mixed, 5.0)
    if place == "telephone":
        mixed = augment.telephone(rng, mixed)
    mixed *= 0.5 / max(float(np.abs(mixed).max()), 1e-6)
    return mixed, join_turns(turns)


def join_turns(turns: list[Turn]) -> tuple[Turn, ...]:
    """Return the turns in order of start; a speaker's pauses up to half a second belong to the turn."""
    joined: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.start_s):
        own = joined.setdefault(turn.speaker_id, [])
        if own and turn.start_s - own[-1].end_s <= _JOINED_PAUSE_S:
            own[-1] = Turn(own[-1].start_s, max(own[-1].end_s, turn.end_s), turn.speaker_id)
        else:
            own.append(turn)
    return tuple(sorted((turn for own in joined.values() for turn in own), key=lambda turn: turn.start_s))
