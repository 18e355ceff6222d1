"""`Attempts`: which engine is asked next, and with which seed, until a piece passes its checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve_app.models.music.options import EngineName
from serve_app.models.music.plan import another_seed
from serve_app.results import MusicPlan
from serve_app.sentences import Sentence, joined


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. The numbers count from 1, so that equal outcomes give equal tries."""

    number: int
    engine: str
    plan: MusicPlan


class Attempts:
    """Each engine gets two seeds; one that fails is not asked again.

    Two poor pieces of an engine lead to the composer alone: its pieces are sure to be sound, another model's are not.
    Call `failed` or `rejected` with the outcome of each attempt before the next one is taken.

    Args:
        plan: of the piece.
        engines: in order of preference.

    Attributes:
        reasons: why each attempt so far was given up.
    """

    def __init__(self, plan: MusicPlan, engines: Sequence[str]) -> None:
        self._plan = plan
        self._engines = list(engines)
        self._has_failed = False
        self.reasons: list[str] = []

    def __iter__(self) -> Iterator[Attempt]:
        engines, number = self._engines, 0
        while engines:
            engine, *engines = engines
            for is_second in (False, True):
                number += 1
                self._has_failed = False
                yield Attempt(number, engine, another_seed(self._plan, number) if is_second else self._plan)
                if self._has_failed:
                    break
            else:
                engines = [other for other in engines if other == EngineName.COMPOSER]

    def failed(self, attempt: Attempt, why: str) -> None:
        """Note that the engine made no piece."""
        self._has_failed = True
        self.reasons.append(Sentence("{engine} failed: {why}", engine=attempt.engine, why=why))

    def rejected(self, attempt: Attempt, faults: Sequence[str]) -> None:
        """Note that the piece did not pass its checks."""
        self.reasons.append(
            Sentence(
                "{engine}'s piece with seed {seed} was rejected: {faults}",
                engine=attempt.engine,
                seed=attempt.plan.seed,
                faults=joined(", ", faults),
            )
        )
