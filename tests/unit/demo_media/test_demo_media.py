"""The shipped dialogue and the call: what the demonstration relies on."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.signal import correlate

import serve_app.demo_media as module
from serve_app.demo_media import call_sample, make_call_video
from serve_app.errors import ModelLoadingError
from serve_app.media.decode import decode_audio
from serve_app.results import SAMPLE_RATE_HZ

MEDIA = resources.files("serve_app.demo_media")
TRUTH = json.loads((MEDIA / "dialogue.json").read_text(encoding="utf-8"))


def test_the_dialogue_is_small_and_has_sound_and_picture():
    with resources.as_file(MEDIA / "dialogue.mp4") as path:
        assert path.stat().st_size <= 1_000_000
        with av.open(str(path)) as container:
            assert {stream.type for stream in container.streams} == {"audio", "video"}
        assert decode_audio(str(path)).duration_s == pytest.approx(TRUTH["duration"], abs=0.1)


def test_the_truth_is_consistent():
    words, turns = TRUTH["words"], TRUTH["turns"]
    assert {word["speaker"] for word in words} == set(TRUTH["speakers"]) == {turn["speaker"] for turn in turns}
    assert len(TRUTH["speakers"]) == 2
    assert len(words) == len(TRUTH["text"].split())
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    for word in words:
        assert 0 < word["start"] < word["end"] < TRUTH["duration"]
        assert any(
            turn["speaker"] == word["speaker"] and turn["start"] <= word["start"] and word["end"] <= turn["end"]
            for turn in turns
        )
    overlaps = [a["end"] - b["start"] for a, b in pairwise(turns) if a["end"] > b["start"]]
    assert len(overlaps) >= 2


def test_the_truth_lies_where_the_sound_is():
    with resources.as_file(MEDIA / "dialogue.mp4") as path:
        samples = decode_audio(str(path)).samples
    spoken = np.zeros(len(samples), bool)
    for turn in TRUTH["turns"]:
        spoken[round(turn["start"] * SAMPLE_RATE_HZ) : round(turn["end"] * SAMPLE_RATE_HZ)] = True
    inside, outside = (np.sqrt(np.mean(samples[part] ** 2)) for part in (spoken, ~spoken))
    assert inside > 5 * outside
    frame = SAMPLE_RATE_HZ // 100
    level = np.sqrt(np.mean(samples[: len(samples) // frame * frame].reshape(-1, frame) ** 2, axis=1))
    begins_s = np.argmax(level > 10 * level[:40].mean()) / 100
    # "Good" begins with the closure of its g, 0.1 s in which nothing sounds
    assert TRUTH["turns"][0]["start"] - 0.02 <= begins_s <= TRUTH["turns"][0]["start"] + 0.12


def test_the_call_is_the_sample_unmoved(tmp_path: Path):
    path = make_call_video(tmp_path / "call.mp4")
    made, given = decode_audio(str(path)).samples, decode_audio(str(call_sample(".wav"))).samples
    assert len(made) == pytest.approx(len(given), abs=0.1 * SAMPLE_RATE_HZ)
    part = slice(8 * SAMPLE_RATE_HZ, 14 * SAMPLE_RATE_HZ)
    likeness = correlate(made[part], given[part])
    assert abs(int(likeness.argmax()) - (len(given[part]) - 1)) <= 16  # a millisecond
    assert np.corrcoef(made[part], given[part])[0, 1] > 0.95


def test_a_picture_is_there_from_the_first_frame_to_the_last(tmp_path: Path):
    path = make_call_video(tmp_path / "call.mp4")
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 150
    assert frames[0].shape == (360, 640, 3)
    assert frames[0].std() > 5  # letters on a ground, not one color


def test_finding_the_call_does_not_import_pyannote_audio():
    code = (
        "import sys; from serve_app.demo_media import call_sample; call_sample('.rttm'); "
        "print([name for name in ('pyannote.audio', 'torch') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_without_the_sample_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadingError, match="install pyannote"):
        call_sample(".wav")


def test_the_korean_recording_is_small_and_says_where_it_is_from():
    about = json.loads((MEDIA / "korean.json").read_text(encoding="utf-8"))
    assert {"text", "source", "licence", "voice"} <= about.keys()
    with resources.as_file(MEDIA / "korean.ogg") as path:
        assert path.stat().st_size <= 100_000
        assert decode_audio(str(path)).duration_s == pytest.approx(17.9, abs=0.2)
