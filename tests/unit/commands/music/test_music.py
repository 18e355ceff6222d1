"""`serve-app music`: what it writes, what it says, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pretty_midi
import pytest
from PIL import Image, ImageDraw

from serve_app.cli import main
from serve_app.models.music import finishing
from serve_app.results import MasteredMusic

YELLOW, NIGHT = (250, 210, 40), (10, 14, 40)


def run(*arguments: object) -> int | str | None:
    """Run the command here and return what it exits with."""
    with pytest.raises(SystemExit) as caught:
        main(["music", *map(str, arguments)])
    return caught.value.code


def draw(path: Path, color: tuple[int, int, int] = YELLOW, *, dot: bool = False) -> Path:
    picture = Image.new("RGB", (160, 120), color)
    if dot:
        ImageDraw.Draw(picture).ellipse((100, 20, 130, 50), fill=(230, 230, 240))
    picture.save(path)
    return path


def heard(path: Path) -> tuple[float, float]:
    """Return the length in seconds and the largest sample of a sound file."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        parts = [frame.to_ndarray().astype(np.float64) for frame in container.decode(audio=0)]
    samples = np.concatenate([part.reshape(part.shape[0], -1) for part in parts], axis=-1)
    channels = 2 if samples.shape[0] == 1 else 1  # interleaved
    return samples.shape[-1] / rate / channels, float(np.abs(samples).max())


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVE_APP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SERVE_APP_LOCALE", raising=False)


class TestOnThisMachine:
    def test_files_are_named_after_the_pictures(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one, two = draw(tmp_path / "one.png"), draw(tmp_path / "밤 [2].jpg", NIGHT, dot=True)
        out = tmp_path / "new" / "folder"
        assert run(one, two, "--out", out, "--duration", 5, "--locale", "en", "--seed", 7) == 0
        assert sorted(path.name for path in out.iterdir()) == sorted(
            f"{stem}.{form}" for stem in ("one", "밤 [2]") for form in ("flac", "json", "mid", "mp3")
        )
        for form in ("mp3", "flac"):
            seconds, peak = heard(out / f"one.{form}")
            assert seconds == pytest.approx(5.0, abs=0.1)
            assert peak > 0
        midi = pretty_midi.PrettyMIDI(str(out / "one.mid"))
        assert sum(len(instrument.notes) for instrument in midi.instruments) > 10
        facts = json.loads((out / "one.json").read_text("utf-8"))
        assert (facts["plan"]["seed"], facts["plan"]["duration_s"], facts["engine_used"]) == (7, 5.0, "composer")
        assert facts["measurements"]["loudness_lufs"] == pytest.approx(-14.0, abs=1.0)
        assert facts["fallback_reason"] is None
        told = capsys.readouterr().err
        assert f"{one}: {facts['caption']['caption_en']}" in told
        assert f"{facts['plan']['tempo_bpm']} bpm" in told
        assert f"{out / '밤 [2].mp3'}" in told
        assert "2 made, 0 failed" in told

    def test_the_same_picture_gives_the_same_piece(self, tmp_path: Path) -> None:
        one, same, other = draw(tmp_path / "one.png"), draw(tmp_path / "same.png"), draw(tmp_path / "other.png", NIGHT)
        assert run(one, same, other, "--out", tmp_path / "out", "--duration", 5) == 0
        content = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        for form in ("mp3", "flac", "mid", "json"):
            assert content[f"one.{form}"] == content[f"same.{form}"]
            assert content[f"one.{form}"] != content[f"other.{form}"]
        assert run(one, "--out", tmp_path / "again", "--duration", 5, "--seed", 1) == 0
        assert (tmp_path / "again" / "one.mid").read_bytes() != content["one.mid"]

    def test_words_and_language(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        picture = draw(tmp_path / "a.png")
        assert run(picture, "--out", tmp_path, "--duration", 5, "--prompt", "sad cello, no drums") == 0
        facts = json.loads((tmp_path / "a.json").read_text("utf-8"))
        assert facts["plan"]["valence"] < facts["caption"]["valence"]
        assert "cello" in facts["plan"]["instruments"]
        assert "drums" not in facts["plan"]["instruments"]
        told = capsys.readouterr().err
        assert facts["caption"]["caption_ko"] in told  # Korean unless it is told otherwise
        assert "첼로" in told

    def test_one_that_fails_does_not_stop_the_others(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVE_APP_MAX_IMAGE_BYTES", "50000")
        bad, large, good = tmp_path / "bad.png", tmp_path / "large.png", draw(tmp_path / "good.png")
        bad.write_bytes(b"no picture")
        large.write_bytes(bytes(60_000))
        assert run(bad, tmp_path / "gone.png", large, good, "--out", tmp_path / "out", "--duration", 5) == 1
        assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".flac", ".json", ".mid", ".mp3"]
        told = capsys.readouterr().err
        assert "bad.png: The file is no picture" in told
        assert "gone.png: No such file" in told
        assert "large.png: The file has more than 50000 bytes" in told
        assert "1 made, 3 failed" in told

    def test_a_poor_piece_is_made_once_more_with_another_seed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        real, faults = finishing.finish, [("The piece is silent",), ()]

        def finish(*given: object) -> MasteredMusic:
            mastered = real(*given)  # type: ignore[arg-type]
            return MasteredMusic(mastered.audio, mastered.duration_s, mastered.measurements, faults.pop(0))

        monkeypatch.setattr(finishing, "finish", finish)
        assert run(draw(tmp_path / "a.png"), "--out", tmp_path, "--duration", 5, "--seed", 7) == 0
        facts = json.loads((tmp_path / "a.json").read_text("utf-8"))
        assert facts["fallback_reason"] == "composer's piece with seed 7 was rejected: The piece is silent"
        assert facts["plan"]["seed"] != 7
        assert facts["fallback_reason"] in capsys.readouterr().err

        faults.extend([("The piece is silent",), ("The piece is noise",)])
        assert run(draw(tmp_path / "b.png"), "--out", tmp_path, "--duration", 5) == 1
        told = capsys.readouterr().err
        assert "b.png: No piece passed its checks; try another --seed" in told
        assert "The piece is noise" in told
        assert not list(tmp_path.glob("b.m*"))

    def test_an_earlier_piece_is_replaced(self, tmp_path: Path) -> None:
        picture = draw(tmp_path / "a.png")
        (tmp_path / "a.mid").write_bytes(b"old")
        assert run(picture, picture, "--out", tmp_path, "--duration", 5) == 0
        assert (tmp_path / "a.mid").read_bytes().startswith(b"MThd")
        assert sorted(path.name for path in tmp_path.glob("*.*")) == ["a.flac", "a.json", "a.mid", "a.mp3", "a.png"]

    def test_no_tensor_library_is_loaded(self, tmp_path: Path) -> None:
        picture = draw(tmp_path / "a.png")
        code = (
            "import atexit, sys\n"
            "atexit.register(lambda: print(sorted({'torch', 'ray', 'transformers', 'librosa'} & set(sys.modules))))\n"
            "from serve_app.cli import main\n"
            f"main(['music', {str(picture)!r}, '--out', {str(tmp_path)!r}, '--duration', '5'])"
        )
        # With CI set, pyfluidsynth would print to standard output.
        environment = {**os.environ, "CI": "true"}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
        assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--duration", "4"], "--duration must be 5 to 120"),
        (["--duration", "nan"], "--duration must be 5 to 120"),
        (["--soundfont", "gone.sf2"], "there is no such file"),
        (["--soundfont", "gone.sf2", "--url", "http://127.0.0.1:1"], "leave out --url"),
        (["--url", "http://127.0.0.1:1"], "can't be reached"),
    ],
)
def test_wrong_options_end_it_before_the_first_picture(tmp_path: Path, arguments: list[str], told: str) -> None:
    code = run(draw(tmp_path / "a.png"), "--out", tmp_path / "out", *arguments)
    assert isinstance(code, str)
    assert told in code
    assert not list(tmp_path.glob("out/*"))


def test_pictures_of_one_name_are_not_written_over_each_other(tmp_path: Path) -> None:
    code = run(tmp_path / "a" / "x.png", tmp_path / "b" / "X.jpg", "--out", tmp_path / "out")
    assert isinstance(code, str)
    assert "would both be written to X.mp3" in code
