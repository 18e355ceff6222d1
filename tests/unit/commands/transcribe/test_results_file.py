"""The files that others read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from serve_app.commands.transcribe.journal import Journal
from serve_app.commands.transcribe.outcome import Failure, Heard, Outcome
from serve_app.commands.transcribe.results_file import failures_path, write_results


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


def written(out: Path, *outcomes: Outcome) -> list[dict[str, object]]:
    with Journal(out.with_name("journal"), {}) as journal:
        journal.record(outcomes)
        write_results(out, journal)
    return json.loads(out.read_text(encoding="utf-8"))


def test_old_form_exactly_and_failures_beside_it(out: Path) -> None:
    results = written(
        out,
        Outcome("나.wav", None, Heard("안녕", "ko", 1.25)),
        Outcome("b.wav", None, Failure("AUDIO_EXTRACTION_ERROR", "no audio")),
        Outcome("a.wav", None, Heard("", None, 0.0)),
    )
    assert results == [
        {"file": "a.wav", "text": "", "language": None, "duration": 0.0},
        {"file": "나.wav", "text": "안녕", "language": "ko", "duration": 1.25},
    ]
    assert "안녕" in out.read_text(encoding="utf-8")  # for people, too
    assert json.loads(failures_path(out).read_text()) == [
        {"file": "b.wav", "error_code": "AUDIO_EXTRACTION_ERROR", "error": "no audio"}
    ]


def test_nothing_is_an_empty_list(out: Path) -> None:
    assert written(out) == []
    assert not failures_path(out).exists()


def test_failures_go_when_they_are_mended(out: Path) -> None:
    written(out, Outcome("a", None, Failure("X", "x")))
    assert failures_path(out).exists()
    assert len(written(out, Outcome("a", None, Heard("t", "en", 1.0)))) == 1
    assert not failures_path(out).exists()


def test_name_that_is_no_utf8(out: Path) -> None:
    results = written(out, Outcome(os.fsdecode(b"caf\xe9.wav"), None, Heard("t", "en", 1.0)))
    assert results[0]["file"] == "caf\\xe9.wav"


def test_readers_never_see_half_a_list(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written(out, Outcome("a", None, Heard("t", "en", 1.0)))

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with Journal(out.with_name("journal2"), {}) as journal:
        monkeypatch.setattr("serve_app.commands.transcribe.results_file.os.fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            write_results(out, journal)
    assert json.loads(out.read_text()) == before
