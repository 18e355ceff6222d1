"""Decoders in real processes that crash, allocate, spin, hang, lie and lose their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import psutil
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from serve_app.errors import AudioExtractionError, ImageTooLarge, StorageUnavailable, Unavailable
from serve_app.media.cage import Cage, Limits
from serve_app.sentences import Locale, Sentence, translated

WORK = "tests.unit.media.caged_work"
LIMITS = Limits(memory_bytes=200 << 20, cpu_s=60.0, wall_s=60.0)


@pytest.fixture(scope="module")
def cage() -> Iterator[Cage]:
    made = Cage(AudioExtractionError, Sentence("file"), [WORK])
    call(made, "length")  # its process is there before each test
    yield made
    made.close()


def call(cage: Cage, name: str, source: str | bytes = b"file", limits: Limits = LIMITS, **arguments: Any) -> Any:
    return cage.call(f"{WORK}:{name}", source, arguments, limits)[1]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def workers(cage: Cage) -> list[psutil.Process]:
    assert cage.pid is not None
    return psutil.Process(cage.pid).children()


def test_bytes_paths_and_urls_reach_the_function(cage: Cage, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(500_000)
    (tmp_path / "a").write_bytes(content)
    fsspec.filesystem("memory").pipe("/cage/a", content)
    sources = (content, str(tmp_path / "a"), f"file://{tmp_path}/a", "memory://cage/a")
    assert [call(cage, "length", source) for source in sources] == [500_000] * 4
    assert len({call(cage, "reads_backwards", source) for source in sources}) == 1
    with pytest.raises(FileNotFoundError):
        call(cage, "length", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        call(cage, "length", "memory://cage/gone")


class EndpointConnectionError(Exception):
    """As botocore has one, which is no OSError."""


@pytest.mark.parametrize("method", ["_open", "read"])
def test_a_store_that_fails_is_not_the_files_fault(cage: Cage, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Another kind would end a job for good in whose decoding the store is away for a moment."""
    fsspec.filesystem("memory").pipe("/cage/b", b"content")

    def fails(*args: object, **options: object) -> None:
        raise EndpointConnectionError

    monkeypatch.setattr(MemoryFileSystem if method == "_open" else MemoryFile, method, fails, raising=False)
    with pytest.raises(StorageUnavailable, match="EndpointConnectionError"):
        call(cage, "reads_backwards", "memory://cage/b")
    monkeypatch.undo()
    assert call(cage, "length", "memory://cage/b") == 7


def test_a_worker_serves_file_after_file_and_knows_no_secret(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({call(cage, "process_id") for _ in range(5)}) == 1
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    fresh = Cage(AudioExtractionError, Sentence("file"), [WORK])
    try:
        seen = call(fresh, "limits_and_secrets")
    finally:
        fresh.close()
    assert not [name for name in seen["environment"] if "AWS" in name or "TOKEN" in name]
    assert seen["no_new_privileges"]
    assert seen["threads"] == 1
    assert seen["descriptors"] <= 6  # standard ones, its connection, the file, and /proc


@pytest.mark.parametrize(
    ("name", "arguments", "limits", "says"),
    [
        ("ends", {"how": "abort"}, LIMITS, "ends its decoder.*SIGABRT"),
        ("ends", {"how": "exit"}, LIMITS, "ends its decoder.*exit 7"),
        ("ends", {"how": "kill"}, LIMITS, "ends its decoder.*SIGKILL"),
        ("allocates", {"num_bytes": 300 << 20}, LIMITS, "more than 210 MB of memory"),
        ("spins", {}, Limits(memory_bytes=200 << 20, cpu_s=1, wall_s=60), "more than 1 s of processor time"),
        ("sleeps", {}, Limits(memory_bytes=200 << 20, cpu_s=60, wall_s=0.3), "more than 0 s to decode"),
        ("ignores_its_alarm", {}, Limits(memory_bytes=200 << 20, cpu_s=60, wall_s=0.3), "more than 0 s to decode"),
        ("raises", {"error": "ValueError"}, LIMITS, "decoder fails .ValueError in raises"),
        ("raises", {"error": "AudioExtractionError"}, LIMITS, "^as told$"),
    ],
)
def test_what_a_file_does_to_its_decoder_is_its_own_fault(
    cage: Cage, name: str, arguments: dict[str, Any], limits: Limits, says: str
) -> None:
    with pytest.raises(AudioExtractionError, match=says) as raised:
        call(cage, name, limits=limits, **arguments)
    assert not raised.value.transient
    assert call(cage, "length") == 4


def test_a_worker_that_the_system_kills_is_no_fault_of_the_file_the_first_time(cage: Cage, tmp_path: Path) -> None:
    assert call(cage, "is_killed_the_first_time", mark=str(tmp_path / "mark")) == 4


def test_other_errors_keep_their_kind(cage: Cage) -> None:
    with pytest.raises(ImageTooLarge, match="as told"):
        call(cage, "raises", error="ImageTooLarge")
    assert call(cage, "allocates", num_bytes=100 << 20) == 100 << 20


@pytest.mark.parametrize(
    "what",
    [
        "noise",
        "too much",
        "long header",
        "no JSON",
        "deep JSON",
        "a list",
        "another kind",
        "another error",
        "no sentence",
        "no sentence of its kind",
        "a sentence of gigabytes",
        "no text",
        "objects",
        "negative shape",
        "wrong shape",
        "overflowing shape",
        "a read without a file",
        "half",
    ],
)
def test_an_answer_out_of_order_ends_the_worker(cage: Cage, what: str) -> None:
    with pytest.raises(AudioExtractionError, match=r"decoder fails|ends its decoder"):
        call(cage, "says", what=what)
    assert call(cage, "length") == 4


def test_sentences_keep_their_translation_on_the_way(cage: Cage) -> None:
    with pytest.raises(AudioExtractionError) as raised:
        cage.call("serve_app.media.decode:length_of", b"<html>", {}, LIMITS)
    assert raised.value.detail == "The file is a web page (HTML), not media"
    assert translated(raised.value.detail, Locale.KO) == "미디어가 아니라 웹 페이지(HTML)입니다"
    with pytest.raises(AudioExtractionError) as raised:
        call(cage, "says", what="no JSON")
    assert translated(raised.value.detail, Locale.KO) == "디코딩할 수 없습니다 (파일): 디코더가 실패합니다"


def test_blocks_come_as_they_are_made_and_wait_for_their_reader(cage: Cage) -> None:
    blocks = cage.blocks(f"{WORK}:counts", b"", {"num_blocks": 1000}, LIMITS)
    assert next(blocks)[0] == 0
    worker = workers(cage)
    assert next(blocks)[-1] == 1
    before = max(each.cpu_times().user for each in worker)
    time.sleep(0.3)
    assert max(each.cpu_times().user for each in worker) - before < 0.2  # it waits, and holds no more than a block
    blocks.close()
    assert call(cage, "length") == 4
    few = cage.blocks(f"{WORK}:counts", b"", {"num_blocks": 3}, LIMITS)
    assert [float(next(few)[5]) for _ in range(3)] == [0.0, 1.0, 2.0]
    with pytest.raises(StopIteration, match="counted"):
        next(few)


def test_time_in_which_a_reader_is_slow_is_not_the_files(cage: Cage) -> None:
    blocks = cage.blocks(f"{WORK}:counts", b"", {"num_blocks": 8}, Limits(memory_bytes=200 << 20, cpu_s=60, wall_s=2.0))
    count = 0
    for _ in blocks:
        time.sleep(0.4)
        count += 1
    assert count == 8


@pytest.mark.parametrize("name", ["spins", "sleeps"])
def test_a_caller_that_leaves_ends_its_worker(cage: Cage, name: str) -> None:
    call(cage, "length")
    has_left = threading.Event()

    def run() -> None:
        cage.call(f"{WORK}:{name}", b"", {}, LIMITS, has_left.is_set)

    with ThreadPoolExecutor(1) as executor:
        task = executor.submit(run)
        time.sleep(0.2)
        busy = {each.pid for each in workers(cage)}
        has_left.set()
        with pytest.raises(asyncio.CancelledError):
            task.result(timeout=20)
    assert not any(psutil.pid_exists(pid) for pid in busy)


def test_many_at_once_have_a_worker_each(cage: Cage) -> None:
    with ThreadPoolExecutor(6) as executor:
        found = list(executor.map(lambda index: call(cage, "length", bytes(index)), range(60)))
    assert found == list(range(60))
    assert len(workers(cage)) <= 6


def test_two_hundred_killed_workers_leave_nothing(cage: Cage) -> None:
    call(cage, "length")
    before = descriptors()
    for _ in range(200):
        with pytest.raises(AudioExtractionError):
            call(cage, "ends", how="kill")
    assert descriptors() <= before
    assert [each for each in workers(cage) if each.status() == psutil.STATUS_ZOMBIE] == []
    assert len(workers(cage)) <= 1
    zygote = psutil.Process(cage.pid)
    assert zygote.num_fds() <= 8


def test_processes_ended_from_outside_are_the_hosts_fault_and_start_again() -> None:
    cage = Cage(AudioExtractionError, Sentence("file"), [WORK])
    call(cage, "length")
    assert cage.pid is not None
    before, busy = cage.pid, threading.Event()

    def run() -> None:
        busy.set()
        call(cage, "sleeps")

    with ThreadPoolExecutor(1) as executor:
        task = executor.submit(run)
        busy.wait()
        time.sleep(0.2)
        os.kill(before, signal.SIGKILL)
        with pytest.raises(Unavailable):
            task.result(timeout=20)
    assert call(cage, "length") == 4
    assert cage.pid != before
    cage.close()


def test_an_idle_worker_that_was_killed_is_replaced(cage: Cage) -> None:
    killed = call(cage, "process_id")
    os.kill(killed, signal.SIGKILL)
    while psutil.Process(killed).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert call(cage, "process_id") != killed


def test_a_machine_without_processes_is_not_the_files_fault() -> None:
    crowded = Cage(AudioExtractionError, Sentence("file"), ["no.such.module"])
    with pytest.raises(Unavailable, match="does not start"):
        call(crowded, "length")
    assert crowded.pid is None


def test_idle_processes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_app.media import cage as module

    monkeypatch.setattr(module, "_IDLE_S", 0.05)
    idle = Cage(AudioExtractionError, Sentence("file"), [WORK])
    assert call(idle, "length") == 4
    deadline = time.monotonic() + 20
    while idle.pid is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert idle.pid is None
    assert call(idle, "length") == 4
    idle.close()


def test_workers_end_with_their_parent() -> None:
    code = f"""
import sys, threading, time, psutil
from serve_app.errors import AudioExtractionError
from serve_app.media.cage import Cage, Limits
cage = Cage(AudioExtractionError, "file", ["{WORK}"])
limits = Limits(memory_bytes=200 << 20, cpu_s=600, wall_s=600)
for name in ("spins", "sleeps"):
    threading.Thread(target=cage.call, args=("{WORK}:" + name, b"", {{}}, limits), daemon=True).start()
while cage.pid is None or len(psutil.Process(cage.pid).children()) < 2: time.sleep(0.01)
time.sleep(0.2)
print(cage.pid, *(each.pid for each in psutil.Process(cage.pid).children()), flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        started = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(started) == 3
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(_lives(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_lives(pid) for pid in started)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
