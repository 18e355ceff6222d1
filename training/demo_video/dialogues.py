"""Random dialogues to evaluate on: other texts, rooms, noises and voices than the one that is shipped.

The texts come from templates that were written once and never chosen by what the recogniser hears.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from training.demo_video.dialogue import Dialogue, Line, Speaker, perform
from training.demo_video.rooms import Room
from training.demo_video.synthesis import VOICES, Synthesizer

_NAMES = ("David", "Susan", "Robert", "Mary")
_PLACES = (
    "the station",
    "the library",
    "the new hotel",
    "the hospital",
    "the city hall",
    "the old bridge",
    "the market",
)
_THINGS = ("the report", "the contract", "the first chapter", "the letter", "the plan", "the budget", "the invitation")
_PEOPLE = ("my sister", "our manager", "the teacher", "the doctor", "my neighbor", "the engineer", "my grandfather")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TIMES = ("this morning", "last night", "in the afternoon", "before dinner", "next week", "after the holidays")
_NUMBERS = ("two", "three", "four", "seven", "ten", "twenty", "fifty")
_OPENINGS = (
    "Hello everybody. I am glad that you could come {time}.",
    "Good evening. Shall we begin with {thing}?",
    "I was at {place} on {day} and I met {person}.",
    "Welcome back. We have {number} questions to answer today.",
)
_REMARKS = (
    "I finished {thing} on {day} and I liked the second part very much.",
    "It is about {number} miles from here to {place}.",
    "We need {number} more people who can help us with {thing}.",
    "In my opinion {thing} should be ready before {day}.",
    "The weather was beautiful, so we walked to {place} and back again.",
    "I heard from {person} that the train was late {time}.",
    "They have built a large garden behind {place}.",
    "{person} wants to travel to Canada with {number} friends.",
    "You can always ask {person}, who has worked there for {number} years.",
    "The children played near {place} until it was dark.",
    "There were {number} messages on the telephone from {person}.",
    "Nobody knows why {thing} was never finished.",
    "The price is higher than it was {number} years ago.",
    "I will write {thing} again and send it to you on {day}.",
)
_QUESTIONS = (
    "Do you remember what {person} said about {place}?",
    "How long does it take to get to {place}?",
    "Would you like to see {thing} before {day}?",
    "What do you think about {thing}?",
    "Who is going to meet {person} on {day}?",
)
_ANSWERS = (
    "Yes, I remember that very well.",
    "I am not sure, but I can find out for you.",
    "That sounds like a very good idea to me.",
    "It depends on how much time we have.",
    "No, I have never heard anything about it.",
)
_CLOSINGS = ("Thank you all for your time. Good night.", "I think that is enough for today. See you on {day}.")


def random_dialogue(seed: int, synthesizer: Synthesizer) -> Dialogue:
    """Return one dialogue of about a minute between two, three or four speakers (in turn, by the seed)."""
    rng = random.Random(seed)
    count = 2 + seed % 3
    names = rng.sample(_NAMES, count)
    voices = rng.sample(VOICES, count)
    speakers = [
        Speaker(
            name,
            voice,
            Room(rng.uniform(0.15, 0.4), rng.uniform(9.0, 16.0), rng.uniform(-4.0, 0.0), rng.randrange(2**31)),
        )
        for name, voice in zip(names, voices, strict=True)
    ]
    noise_db = rng.uniform(-55.0, -42.0)
    script = list(_script(names, rng))
    return perform(script, speakers, noise_db=noise_db, seed=seed, synthesizer=synthesizer)


def _script(names: list[str], rng: random.Random) -> Iterator[Line]:
    speaker = rng.choice(names)
    yield Line(speaker, _filled(rng.choice(_OPENINGS), rng), 0.0)
    remarks, questions = rng.sample(_REMARKS, 10), rng.sample(_QUESTIONS, 4)
    for number in range(12):
        # everybody speaks at least once; then whoever it is, but not twice in a row
        others = [name for name in names if name != speaker]
        speaker = names[number] if number < len(names) and names[number] != speaker else rng.choice(others)
        pause_s = rng.uniform(-0.4, -0.1) if rng.random() < 0.12 else float(np.clip(rng.gauss(0.5, 0.25), 0.15, 1.5))
        asked = number % 4 == 1
        answers = number % 4 == 2
        template = questions.pop() if asked else rng.choice(_ANSWERS) if answers else remarks.pop()
        yield Line(speaker, _filled(template, rng), pause_s)
    yield Line(rng.choice([name for name in names if name != speaker]), _filled(rng.choice(_CLOSINGS), rng), 0.6)


def _filled(template: str, rng: random.Random) -> str:
    text = template.format(
        place=rng.choice(_PLACES),
        thing=rng.choice(_THINGS),
        person=rng.choice(_PEOPLE),
        day=rng.choice(_DAYS),
        time=rng.choice(_TIMES),
        number=rng.choice(_NUMBERS),
    )
    return text[0].upper() + text[1:]
