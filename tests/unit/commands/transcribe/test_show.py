"""What a run shows, on a terminal and in a log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from serve_app.commands.transcribe.media_files import MediaFile
from serve_app.commands.transcribe.outcome import Failure, Heard, Outcome
from serve_app.commands.transcribe.run import Plan, Task
from serve_app.commands.transcribe.show import RunDisplay


def made(num_files: int) -> Plan:
    return Plan([Task(MediaFile(Path("/x"), str(number))) for number in range(num_files)], num_done=7)


def heard(name: str) -> Outcome:
    return Outcome(name, None, Heard("t", "en", 90.0))


def failed(name: str, detail: str = "no audio") -> Outcome:
    return Outcome(name, None, Failure("AUDIO_EXTRACTION_ERROR", detail))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [100.0]
    monkeypatch.setattr("serve_app.commands.transcribe.show.time.monotonic", lambda: now_s[0])
    return now_s


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=120, color_system=None), written


def test_terminal_shows_numbers_speed_and_why_it_waits(clock: list[float]) -> None:
    screen, written = console(terminal=True)
    with RunDisplay(screen, made(5)) as display:
        clock[0] += 10
        display.ended(heard("a"))
        display.ended(failed("b"))
        display.tick(["queue \x1b[2J[bold]full", "queue \x1b[2J[bold]full", "starting"])
        display._live.refresh()
        shown = written.getvalue()
    assert "2/5" in shown
    assert "1 failed, 90 s of audio, 9.0 s a second" in shown
    assert "3 waiting: queue \ufffd[2J[bold]full" in shown


def test_log_says_now_and_then_how_far_it_is(clock: list[float]) -> None:
    log, written = console(terminal=False)
    with RunDisplay(log, made(5)) as display:
        display.ended(heard("a"))
        display.tick([])
        assert written.getvalue() == ""
        clock[0] += 30
        display.tick(["full"])
        display.tick(["full"])
    assert written.getvalue() == "1/5: 90 s of audio, 3.0 s a second; 1 waiting: full\n"


def test_summary_counts_what_was_there_before(clock: list[float]) -> None:
    log, written = console(terminal=False)
    plan = made(2)
    plan.num_failed = 2
    with RunDisplay(log, plan) as display:
        clock[0] += 9
        display.ended(heard("a"))
        display.ended(failed("b"))
    display.summarise(Path("out.json"), plan, Path("out.json.failures"))
    assert "1 transcribed, 7 were done already, 3 failed; 90 s of audio, 10.0 s a second" in written.getvalue()
    assert display.num_failed == 1


def test_long_list_of_failures_is_cut_and_says_where_the_rest_is() -> None:
    log, written = console(terminal=False)
    with RunDisplay(log, made(30)) as display:
        for number in reversed(range(30)):
            display.ended(failed(f"file {number:02}", "[red]x[/red]\x1b[31m"))
    display.summarise(Path("out.json"), made(30), Path("out.json.failures"))
    told = written.getvalue()
    assert [number for number in range(30) if f"file {number:02}" in told] == list(range(20))
    assert "… and 10 more; all are in out.json.failures" in told
    assert "[red]x[/red]\ufffd[31m" in told
