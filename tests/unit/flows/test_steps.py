"""Steps of a job over a real job table: what is kept, what is run again, and what becomes known when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pytest

from serve_app.errors import LeaseLost, ProcessingError, StorageUnavailable
from serve_app.flows.steps import DurableSteps, PlainSteps, Steps
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import VideoRequest
from serve_app.jobs.store import JobStore
from serve_app.messages import Stage
from serve_app.results import AudioSource, Segment, SpeechActivity, SpeechRegion, Transcript, Word
from tests.clock import Clock
from tests.job_tables import make_job_table

T = TypeVar("T")
LEASE_S = 15.0

# a job in three steps, each with the stage that it announces
NAMES = ("fetch", "detect_speech", "transcribe")
STAGES = (Stage.DOWNLOADED, Stage.DIARIZING, Stage.RECOGNIZING_EMOTION)


@dataclass(frozen=True, slots=True)
class Found:
    """A result with what JSON does not tell apart: tuples, nested dataclasses, absent values."""

    segments: tuple[Segment, ...]
    label: str | None
    scores: dict[str, float]


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def store(clock: Clock) -> JobStore:
    store, _ = make_job_table(lease_s=LEASE_S, clock=clock)
    store.submit(VideoRequest(job_id="a", video_url="https://example.com/a.mp4"), max_queued=None)
    return store


def claim(store: JobStore, owner: str = "ours") -> Claim:
    claim = store.claim(owner)
    assert claim is not None
    return claim


def resume(store: JobStore, claim: Claim, measured: list[tuple[str, float]] | None = None) -> DurableSteps:
    done, seconds = store.steps("a"), store.step_seconds("a")
    if measured is None:
        return DurableSteps(store, claim, done, seconds)
    return DurableSteps(store, claim, done, seconds, lambda name, seconds: measured.append((name, seconds)))


def run(
    steps: Steps, name: str, result_type: type[T], work: Callable[[], Awaitable[T]], announce: Sequence[Stage] = ()
) -> T:
    return asyncio.run(steps.run(name, result_type, work, announce))


def returns(value: T) -> Callable[[], Awaitable[T]]:
    async def work() -> T:
        return value

    return work


async def never() -> int:
    raise AssertionError("a finished step was run again")


def progress(store: JobStore) -> list[int]:
    return [event.payload["progress"] for event in store.events("a")]


class TestPlain:
    def test_each_step_is_run_and_timed(self) -> None:
        steps = PlainSteps()
        assert [run(steps, "fetch", int, returns(n)) for n in (1, 2)] == [1, 2]
        assert list(steps.seconds) == ["fetch"]
        assert steps.seconds["fetch"] >= 0
        asyncio.run(steps.announce(Stage.MERGING))

    def test_a_block_is_timed_in_place_of_its_parts(self) -> None:
        steps = PlainSteps()
        run(steps, "transcribe_all", int, returns(0))
        with steps.timed("transcribe"):
            for number in range(2):
                run(steps, f"transcribe/{number:05d}", int, returns(number))
            parts = sum(seconds for name, seconds in steps.seconds.items() if name.startswith("transcribe/"))
        assert list(steps.seconds) == ["transcribe_all", "transcribe"]
        assert steps.seconds["transcribe"] >= parts

    def test_a_failed_step_has_no_seconds(self) -> None:
        async def fails() -> int:
            raise ProcessingError("no")

        steps = PlainSteps()
        with pytest.raises(ProcessingError):
            run(steps, "fetch", int, fails)
        assert steps.seconds == {}


class TestDurable:
    def test_a_step_is_kept_with_its_seconds_and_its_stage(self, store: JobStore) -> None:
        measured: list[tuple[str, float]] = []
        steps = resume(store, claim(store), measured)
        assert run(steps, "fetch", str, returns("file"), [Stage.DOWNLOADED]) == "file"
        assert store.steps("a") == {"fetch": "file"}
        assert progress(store) == [10]
        assert store.step_seconds("a") == steps.seconds
        assert measured == list(steps.seconds.items())

    def test_a_kept_step_is_not_run_measured_or_announced_again(self, store: JobStore, clock: Clock) -> None:
        first = claim(store)
        store.commit_step(first, "fetch", 7, seconds=12.5, announce=[Stage.DOWNLOADED])
        clock.now_s += LEASE_S
        measured: list[tuple[str, float]] = []
        steps = resume(store, claim(store, "theirs"), measured)
        assert run(steps, "fetch", int, never, [Stage.DOWNLOADED]) == 7
        assert steps.seconds == {"fetch": 12.5}
        assert measured == []
        assert progress(store) == [10]

    @pytest.mark.parametrize("num_done", range(len(NAMES) + 1))
    def test_a_takeover_goes_on_after_the_last_kept_step(self, store: JobStore, clock: Clock, num_done: int) -> None:
        ran: list[str] = []

        async def pipeline(steps: Steps, *, dies_after: int | None = None) -> list[str]:
            results = []
            for number, (name, stage) in enumerate(zip(NAMES, STAGES, strict=True)):
                if number == dies_after:
                    raise asyncio.CancelledError

                async def work(name: str = name) -> str:
                    ran.append(name)
                    return name.upper()

                results.append(await steps.run(name, str, work, [stage]))
            return results

        dying = pipeline(resume(store, claim(store)), dies_after=num_done)
        if num_done < len(NAMES):
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(dying)
        else:
            asyncio.run(dying)
        assert ran == list(NAMES[:num_done])
        clock.now_s += LEASE_S
        heir = resume(store, claim(store, "theirs"))
        assert asyncio.run(pipeline(heir)) == [name.upper() for name in NAMES]
        assert ran == list(NAMES)  # each once
        assert list(heir.seconds) == list(NAMES)
        assert progress(store) == list(STAGES)  # each once

    def test_what_is_done_within_a_stage_is_shown_and_not_announced(self, store: JobStore) -> None:
        steps = resume(store, claim(store))
        shown = []

        async def scenario() -> None:
            await steps.announce(Stage.TRANSCRIBING)
            for share in (0.0, 0.5, 0.25, 1.0):
                await steps.advance(Stage.TRANSCRIBING, Stage.RECOGNIZING_EMOTION, share)
                shown.append(store.get("a").progress)
            await steps.announce(Stage.RECOGNIZING_EMOTION)

        asyncio.run(scenario())
        assert shown == [60, 67, 67, 74]
        assert progress(store) == [60, 75]

    def test_a_thousand_pieces_are_few_writes(self, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = resume(store, claim(store))
        written: list[int] = []
        monkeypatch.setattr(store, "advance", lambda claim, percent: written.append(percent))

        async def scenario() -> None:
            for done in range(1001):
                await steps.advance(Stage.TRANSCRIBING, Stage.RECOGNIZING_EMOTION, done / 1000)

        asyncio.run(scenario())
        assert written == list(range(61, 75))

    def test_a_job_goes_on_where_its_progress_can_not_be_stored(
        self, store: JobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> None:
            raise StorageUnavailable("away", 1.0)

        steps = resume(store, claim(store))
        monkeypatch.setattr(store, "advance", away)
        monkeypatch.setattr(store, "note_sound", away)
        asyncio.run(steps.note_sound(60.0, 30.0))
        asyncio.run(steps.advance(Stage.TRANSCRIBING, Stage.RECOGNIZING_EMOTION, 0.5))
        assert run(steps, "fetch", int, returns(7)) == 7

    def test_the_sound_is_noted(self, store: JobStore) -> None:
        steps = resume(store, claim(store))
        asyncio.run(steps.note_sound(60.0))
        assert (store.get("a").length_s, store.get("a").speech_s) == (60.0, None)
        asyncio.run(steps.note_sound(61.0, 30.0))
        assert (store.get("a").length_s, store.get("a").speech_s) == (61.0, 30.0)

    def test_stages_are_announced_once_and_only_upwards(self, store: JobStore) -> None:
        steps = resume(store, claim(store))

        async def scenario() -> None:
            await steps.announce(Stage.DETECTING_SPEECH)
            await steps.announce(Stage.DETECTING_SPEECH, Stage.DOWNLOADED)
            await steps.announce(Stage.TRANSCRIBING)

        asyncio.run(scenario())
        assert progress(store) == [25, 60]

    @pytest.mark.parametrize(
        ("result_type", "result"),
        [
            (AudioSource, AudioSource("file:///media", 12_345, "talk.mp4")),
            (SpeechActivity, SpeechActivity(4.0, (SpeechRegion(0.0, 1.5), SpeechRegion(2.0, 3.25)), ("a note",))),
            (
                Transcript,
                Transcript(
                    (Segment(0.0, 1.0, "안녕 \U0001f44b", (Word("안녕", 0.0, 0.5, 0.9),), avg_logprob=-0.25),),
                    "ko",
                    "whisper",
                ),
            ),
            (Found, Found((Segment(0.1, 0.2, "x", ()),), None, {"joy": 1 / 3})),
            (tuple[int, ...], (1, 2)),
            (type(None), None),
        ],
    )
    def test_a_kept_result_is_what_the_step_returned(
        self, store: JobStore, clock: Clock, result_type: type[object], result: object
    ) -> None:
        run(resume(store, claim(store)), "step", result_type, returns(result))
        clock.now_s += LEASE_S
        kept = run(resume(store, claim(store, "theirs")), "step", result_type, never)
        assert kept == result
        assert type(kept) is type(result)

    def test_a_step_that_fails_is_not_kept(self, store: JobStore) -> None:
        async def fails() -> int:
            raise ProcessingError("no")

        held = claim(store)
        steps = resume(store, held)
        with pytest.raises(ProcessingError):
            run(steps, "fetch", int, fails, [Stage.DOWNLOADED])
        assert (store.steps("a"), progress(store), steps.seconds) == ({}, [], {})
        assert run(steps, "fetch", int, returns(1)) == 1  # the same runner may try once more

    def test_a_runner_that_lost_its_job_keeps_and_announces_nothing(self, store: JobStore, clock: Clock) -> None:
        measured: list[tuple[str, float]] = []
        stale = resume(store, claim(store), measured)
        clock.now_s += LEASE_S
        heir = resume(store, claim(store, "theirs"))
        with pytest.raises(LeaseLost):
            run(stale, "fetch", str, returns("ours"), [Stage.DOWNLOADED])
        with pytest.raises(LeaseLost):
            asyncio.run(stale.announce(Stage.MERGING))
        assert (store.steps("a"), progress(store)) == ({}, [])
        assert (stale.seconds, measured) == ({}, [])
        assert run(heir, "fetch", str, returns("theirs"), [Stage.DOWNLOADED]) == "theirs"
        assert store.steps("a") == {"fetch": "theirs"}
