"""Which hosts gave no answer, told between processes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from serve_app.models import model_source
from serve_app.models.model_source import Silences


def test_a_silence_is_told_to_others_until_it_is_forgotten(tmp_path: Path) -> None:
    Silences(tmp_path / "s").keep("Hugging Face hub", "it can't be reached")
    assert Silences(tmp_path / "s").of("Hugging Face hub") == "it can't be reached"
    assert Silences(tmp_path / "s").of("package registry") is None
    Silences(tmp_path / "s").forget()
    assert Silences(tmp_path / "s").of("Hugging Face hub") is None


def test_an_old_silence_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Silences(tmp_path).keep("hub", "it can't be reached")
    now = time.time()
    monkeypatch.setattr(model_source.time, "time", lambda: now + model_source.SILENCE_KEPT_S + 1)
    assert Silences(tmp_path).of("hub") is None
    monkeypatch.setattr(model_source.time, "time", lambda: now - 3600)  # the clock was set back
    assert Silences(tmp_path).of("hub") is None


@pytest.mark.parametrize("note", ["", "[]", "{}", json.dumps({"at": "x", "reason": 1})])
def test_a_broken_note_is_none(tmp_path: Path, note: str) -> None:
    (tmp_path / "hub.json").write_text(note)
    assert Silences(tmp_path).of("hub") is None


def test_a_folder_that_can_not_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Silences(tmp_path / "file").keep("hub", "x")
    Silences(tmp_path / "file").forget()
    assert Silences(tmp_path / "file").of("hub") is None
