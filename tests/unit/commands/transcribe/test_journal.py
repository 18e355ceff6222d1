"""The journal: nothing recorded is lost, nothing half-written counts."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from serve_app.commands.transcribe.journal import Journal
from serve_app.commands.transcribe.media_files import Fingerprint
from serve_app.commands.transcribe.outcome import UNREADABLE, Failure, Heard, Outcome
from serve_app.commands.transcribe.results_file import write_results
from serve_app.errors import InvalidRequest

BATCH = {"folder": "/calls", "language": "ko", "backend": None}
PRINT = Fingerprint(3, 4, "ab")


def heard(name: str, text: str = "안녕하세요") -> Outcome:
    return Outcome(name, PRINT, Heard(text, "ko", 1.5))


def failed(name: str) -> Outcome:
    return Outcome(name, None, Failure(UNREADABLE, "gone"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.json.journal"


def reopened(path: Path) -> list[Outcome]:
    with Journal(path, BATCH) as journal:
        return list(journal.outcomes())


def test_what_was_recorded_comes_back_sorted(path: Path) -> None:
    strange = os.fsdecode(b"caf\xe9\n\x1b.wav")
    with Journal(path, BATCH) as journal:
        journal.record([heard("b"), failed("a")])
        journal.record([heard(strange, 'line\n"quote" \\ \u2028')])
        inside = list(journal.outcomes())
    assert inside == [failed("a"), heard("b"), heard(strange, 'line\n"quote" \\ \u2028')]
    assert reopened(path) == inside


def test_later_lines_replace_earlier_ones(path: Path) -> None:
    with Journal(path, BATCH) as journal:
        journal.record([failed("a"), heard("b", "old")])
        journal.record([heard("a"), heard("b", "new")])
    assert reopened(path) == [heard("a"), heard("b", "new")]


def test_forgotten_until_recorded_again(path: Path) -> None:
    with Journal(path, BATCH) as journal:
        journal.record([heard("a"), heard("b")])
        journal.forget("a")
        assert journal.entry("a") is None
        assert list(journal.outcomes()) == [heard("b")]


def test_entries_tell_what_a_plan_needs(path: Path) -> None:
    with Journal(path, BATCH) as journal:
        journal.record([heard("a"), failed("b")])
    with Journal(path, BATCH) as journal:
        a, b = journal.entry("a"), journal.entry("b")
        assert a is not None
        assert b is not None
        assert (a.fingerprint, a.heard, b.fingerprint, b.heard) == (PRINT, True, None, False)
        assert journal.entry("c") is None


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what only a power cut could tell, where a test writes hundreds of times."""
    monkeypatch.setattr("serve_app.commands.transcribe.journal.os.fsync", lambda handle: None)


@pytest.mark.usefixtures("no_sync")
def test_any_cut_keeps_what_was_whole(path: Path) -> None:
    """A crash may leave any prefix of the bytes: each keeps its whole lines, and can be gone on with."""
    with Journal(path, BATCH) as journal:
        journal.record([heard("a")])
        journal.record([failed("b"), heard("c")])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        num_lines = whole[:length].count(b"\n")
        with Journal(path, BATCH) as journal:
            assert [outcome.name for outcome in journal.outcomes()] == ["a", "b", "c"][: max(num_lines - 1, 0)]
            journal.record([heard("d")])
        assert [outcome.name for outcome in reopened(path)][-1] == "d"
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_interrupted_write_is_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def interrupted(handle: int, data: bytes, offset: int) -> int:
        real(handle, data[:20], offset)
        raise KeyboardInterrupt

    with Journal(path, BATCH) as journal:
        journal.record([heard("a")])
        monkeypatch.setattr("serve_app.commands.transcribe.journal.os.pwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.record([heard("b")])
        monkeypatch.undo()
        assert list(journal.outcomes()) == [heard("a")]
        journal.record([heard("c", "")])
    assert reopened(path) == [heard("a"), heard("c", "")]


def test_short_writes_are_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(
        "serve_app.commands.transcribe.journal.os.pwrite", lambda handle, data, at: real(handle, data[:7], at)
    )
    with Journal(path, BATCH) as journal:
        journal.record([heard("a"), heard("b")])
    assert reopened(path) == [heard("a"), heard("b")]


def test_is_on_the_disk_before_record_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        synced.append(path.stat().st_size)

    with Journal(path, BATCH) as journal:
        monkeypatch.setattr("serve_app.commands.transcribe.journal.os.fsync", fsync)
        journal.record([heard("a"), heard("b")])
        assert synced == [path.stat().st_size]


@pytest.mark.parametrize(
    ("other", "told"),
    [({"language": "en"}, "language 'ko', not 'en'"), ({"folder": "/x"}, "folder"), ({"backend": "x"}, "backend None")],
)
def test_another_batch_is_refused(path: Path, other: dict[str, str], told: str) -> None:
    with Journal(path, BATCH) as journal:
        journal.record([heard("a")])
    before = path.read_bytes()
    with pytest.raises(InvalidRequest, match=told) as caught:
        Journal(path, {**BATCH, **other})
    assert "--start-over" in caught.value.detail
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", [b"{not json}\n", b'{"name": "a"}\n', b"[]\n", b'"text"\n', b"\xff\n"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_damaged_line_is_named_and_nothing_is_touched(path: Path, line: bytes, at: int) -> None:
    with Journal(path, BATCH) as journal:
        journal.record([heard("a"), heard("b")])
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(at, line)
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    with pytest.raises(InvalidRequest, match=f"line {at + 1} is damaged"):
        Journal(path, BATCH)
    assert path.read_bytes() == before


def test_other_version_is_refused(path: Path) -> None:
    path.write_text(json.dumps({"serve_app_batch": 2, **BATCH}) + "\n")
    with pytest.raises(InvalidRequest, match="another version"):
        Journal(path, BATCH)


@pytest.mark.usefixtures("no_sync")
def test_texts_stay_on_the_disk(path: Path, tmp_path: Path) -> None:
    """20 MB of transcripts are recorded, opened again and written out with 2 MB of memory."""
    num_files, num_chars = 200, 100_000
    out = tmp_path / "results.json"
    tracemalloc.start()
    try:
        with Journal(path, BATCH) as journal:
            for number in range(num_files):
                journal.record([heard(f"{number:04}", "x" * num_chars)])
        with Journal(path, BATCH) as journal:
            write_results(out, journal)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert out.stat().st_size > num_files * num_chars
    assert peak_bytes < 2_000_000
