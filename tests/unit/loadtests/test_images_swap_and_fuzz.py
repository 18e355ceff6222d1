"""What the swap under load and the broken files count as wrong."""

from __future__ import annotations

from dataclasses import replace

from loadtests import images_fuzz, images_swap
from loadtests.images.load import Answer
from loadtests.images.mutations import Case
from loadtests.images_fuzz import Judged, Replica
from loadtests.images_swap import Swap

_OLD, _NEW = "serving.pth (00000000)", "serving.pth (11111111)"
_EXPECTED = {_OLD: [{"a": 0.9, "b": 0.1}], _NEW: [{"a": 0.2, "b": 0.8}]}
_SWAP = Swap(4, 1.0, 0, "", 6)


def _answer(version: str, a: float | None = None) -> Answer:
    a = _EXPECTED[version][0]["a"] if a is None else a
    return Answer(1.0, 0, 200, f'{{"probabilities": {{"a": {a}, "b": {1 - a}}}}}', version)


def _problems(answers: list[Answer], swap: Swap = _SWAP) -> list[str]:
    return images_swap.problems(answers, _EXPECTED, swap, concurrency=1, max_drift=0.02)


def test_a_clean_swap_has_no_problems() -> None:
    assert _problems([_answer(_OLD)] * 5 + [_answer(_NEW)] * 5) == []
    # the one that was under way when the command returned
    assert _problems([_answer(_OLD)] * 7 + [_answer(_NEW)] * 3) == []


def test_every_way_to_go_wrong_is_told() -> None:
    good = [_answer(_OLD)] * 5 + [_answer(_NEW)] * 5
    assert _problems([*good, Answer(1.0, 0, 503, "busy")]) == ["1 requests failed, the first with 503 busy"]
    assert _problems([_answer(_OLD)] * 6) == [f"never seen: {_NEW}"]
    assert _problems([*good, replace(good[0], version="")]) == ["unknown versions: "]
    assert _problems([*good, _answer(_NEW, 0.9)]) == [
        "1 answers have other probabilities than the version that they name, by up to 0.700"
    ]
    assert _problems([*good, _answer(_OLD)]) == ["1 answers of the old version after the command had returned"]
    assert _problems(good, replace(_SWAP, status=1, said="no")) == ["the command ended with 1: no"]


def _judged(status: int, kind: str = "truncate") -> Judged:
    return Judged(Case(f"1-{kind}", kind, b""), "/r", Answer(1.0, 0, status, "why"))


def test_statuses_are_counted_by_kind() -> None:
    assert images_fuzz.table([_judged(422), _judged(422), _judged(200, "splice"), _judged(0, "splice")]) == [
        "| mutation | none | 200 | 422 |",
        "| --- | --- | --- | --- |",
        "| splice | 1 | 1 | 0 |",
        "| truncate | 0 | 0 | 2 |",
        "| all | 1 | 1 | 2 |",
    ]


def test_a_5xx_a_lost_answer_another_process_and_much_memory_are_problems() -> None:
    before = [Replica(5, "Ingress", 100.0), Replica(6, "BeverageDetector", 300.0)]

    def problems(judged: list[Judged], after: list[Replica] = before) -> list[str]:
        return images_fuzz.problems(judged, before, after, max_growth_mb=50.0)

    assert problems([_judged(200), _judged(413), _judged(422)]) == []
    assert problems([_judged(500), _judged(0)]) == ["1-truncate to /r: 500 why", "1-truncate to /r: no answer why"]
    [restarted] = problems([], [before[0], Replica(7, "BeverageDetector", 900.0)])
    assert "6: 'BeverageDetector'" in restarted
    assert "7: 'BeverageDetector'" in restarted
    [grown] = problems([], [before[0], replace(before[1], peak_mb=351.0)])
    assert grown == "BeverageDetector took 51 MB more than with good files, 50 allowed"
