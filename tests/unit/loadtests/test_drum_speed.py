"""Figures of the drums' speed comparison, and the files that it is made on."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import pytest

from loadtests import drum_speed
from loadtests.drum_speed import FLOOR, Way, alternate, bar, in_new_process, memory_mb, memory_table, table, write_music
from loadtests.process_memory import ProcessGroup
from loadtests.whisper_graph import Run


def test_a_rounds_ratio_is_of_runs_in_that_round() -> None:
    ways = [Way(FLOOR, lambda: None, 60.0), Way("ours", lambda: None, 480.0)]
    runs = {
        FLOOR: [Run(1.0, 1.0, 0.0, None), Run(2.0, 2.0, 0.5, None)],
        "ours": [Run(4.0, 6.0, 0.0, None), Run(16.0, 12.0, 1.0, None)],
    }
    floor, ours = table(ways, runs)[2:]
    # eight times the audio: 8/4 and 16/16 by time, 6/8 and 12/16 by CPU; the medians 1.5 s, 10 s and 9 s
    assert floor == f"| {FLOOR} | 60 | 1.50 | 40 | 1.50 | 0.25 | 1.00 | 1.00 |"
    assert ours == "| ours | 480 | 10.00 | 48 | 1.12 | 0.50 | 1.50 | 0.75 |"


def test_rounds_alternate() -> None:
    order: list[str] = []
    ways = [Way(name, lambda name=name: order.append(name), 1.0) for name in "ab"]
    runs = alternate(ways, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(each) for name, each in runs.items()} == {"a": 3, "b": 3}


def test_music_has_the_length_asked_for(tmp_path: Path) -> None:
    path = write_music(tmp_path / "music.wav", 130.7)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 44_100)
        assert file.getnframes() == round(130.7 * 44_100)
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
    once = bar()
    assert np.array_equal(samples[: len(once)], once)
    assert np.abs(samples[-44_100:]).max() > 1000  # to its end


def test_drums_are_made_up_where_there_is_no_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(drum_speed, "LOOPS", tmp_path)
    beat = bar()
    assert len(beat) == 2 * 44_100
    loudest = np.abs(beat.astype(int)).reshape(8, -1).max(axis=1)  # eighths, each with a hi-hat at least
    assert loudest.min() > 300
    assert loudest[0] > 2 * loudest[1]  # the kick


def test_memory_of_a_replica_that_starts_on_demand() -> None:
    ingress = ProcessGroup("Ingress", 110.0, 100.0, 120.0, 1.0)
    replica = ProcessGroup("DrumTranscriber", 300.0, 250.0, 400.0, 1.0)
    assert memory_table([ingress], [ingress, replica])[2:] == [
        "| DrumTranscriber | not running | 250 | 400 |",
        "| Ingress | 100 | 100 | 120 |",
        "| all of the graph | 100 | 350 | |",
    ]


def test_another_process_measures_itself() -> None:
    assert in_new_process(os.getpid) != os.getpid()
    assert 1.0 < memory_mb("VmRSS") <= memory_mb("VmHWM")
