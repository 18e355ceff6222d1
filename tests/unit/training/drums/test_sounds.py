"""The sources of sounds: recordings on disk, soundfonts' presets, one-shots, the modal engine."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from training.drums import one_shots, recordings, soundfonts
from training.drums.modal import SAMPLE_RATE_HZ, Dice, noise, ring
from training.drums.recordings import Layer, Recording, from_attack, level_db, trim
from training.drums.soundfonts import MissingSoundsError, drum_presets


def _stroke(decay_s: float = 0.05, hz: float = 300.0) -> np.ndarray:
    times = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return (np.cos(2 * np.pi * hz * times) * np.exp(-times / decay_s)).astype(np.float32)


def test_ring_is_the_sum_of_its_modes() -> None:
    hz, gains = np.array([200.0, 3456.7]), np.array([1.0, 0.4])
    decays_s, phases = np.array([0.1, 0.02]), np.array([0.3, -1.0])
    times = np.arange(5000)[:, None] / SAMPLE_RATE_HZ
    expected = (gains * np.exp(-times / decays_s) * np.cos(2 * np.pi * hz * times + phases)).sum(axis=1)
    np.testing.assert_allclose(ring(5000, hz, gains, decays_s, phases), expected, atol=1e-5)


def test_noise_follows_its_spectrum() -> None:
    made = noise(np.random.default_rng(0), 44_100, lambda hz: (hz > 5000).astype(np.float32))
    power = np.abs(np.fft.rfft(made)) ** 2
    assert power[:4900].sum() < 0.01 * power.sum()
    assert np.mean(made**2) == pytest.approx(1, abs=1e-3)


def test_held_out_parameters_never_occur_in_training() -> None:
    train, held_out = (
        [Dice(np.random.default_rng(seed), split).uniform(0, 12) for seed in range(300)]
        for split in ("train", "held_out")
    )
    assert {int(value) for value in train} == set(range(12)) - {2, 6, 9}
    assert {int(value) for value in held_out} == {2, 6, 9}


def test_trim_begins_at_the_onset_and_ends_with_the_sound() -> None:
    silence = np.zeros(5000, np.float32)
    cut = trim(np.concatenate([silence, _stroke(), silence]))
    assert np.argmax(np.abs(cut)) < 60
    assert cut.size < 0.5 * SAMPLE_RATE_HZ
    assert cut[-1] == 0


def test_from_attack_takes_a_swell_off() -> None:
    swell = np.concatenate([0.02 * np.ones(1000, np.float32), _stroke()])
    assert np.argmax(np.abs(from_attack(swell))) < 100
    assert from_attack(_stroke()).size == _stroke().size


def test_layers_that_differ_in_level_alone_are_left_out() -> None:
    soft, hard = _stroke(), _stroke()
    other = _stroke(hz=800.0)
    layers = tuple(
        Layer.of(velocity, gain * each)
        for velocity, gain, each in ((0.2, 0.1, other), (0.5, 0.3, soft), (1.0, 1.0, hard))
    )
    recording = Recording("name", "snare", layers).thinned()
    assert [layer.velocity for layer in recording.layers] == [0.2, 1.0]
    assert recording.level_db(0.5) - recording.level_db(1.0) == pytest.approx(20 * np.log10(0.3), abs=0.1)
    assert recording.layer(0.15).velocity == 0.2
    assert recording.layer(0.4).velocity == 1.0


def test_recordings_come_back_from_disk(tmp_path: Path) -> None:
    recording = Recording("font/kit/36", "kick", (Layer.of(1.0, 0.25 * _stroke()),)).thinned()
    recordings.save(tmp_path / "font", {"one": [recording], "two": [recording]})
    loaded = recordings.load(tmp_path / "font")
    assert loaded["one"] == loaded["two"]
    (again,) = loaded["one"]
    np.testing.assert_allclose(again.layers[0].samples / 32767, recording.layers[0].samples, atol=1e-4)
    assert again.level_db(1.0) == pytest.approx(level_db(0.25 * _stroke()))


def test_no_one_shot_is_in_both_splits() -> None:
    train, held_out = (
        [name for group in split.values() for name in group] for split in (one_shots.TRAIN, one_shots.HELD_OUT)
    )
    assert not set(train) & set(held_out)
    assert len(train) == len(set(train))
    assert not any(name.startswith("loop") for name in train + held_out)


def test_one_shots_are_read_as_classified() -> None:
    if not one_shots.FOLDER.is_dir():
        pytest.skip(f"{one_shots.FOLDER} is not there")
    read = one_shots.read({"tom_high": ("drum_tom_hi",), "hihat_closed": ("hat_raw",)})
    assert [(each.articulation, len(each.layers)) for each in read] == [("tom_high", 2), ("hihat_closed", 1)]
    assert all(each.level_db(0.2) < each.level_db(1.0) for each in read)


def test_no_folder_of_one_shots_means_none(tmp_path: Path) -> None:
    assert one_shots.read(one_shots.TRAIN, tmp_path / "absent") == []


def _soundfont(path: Path, presets: list[tuple[bytes, int, int]]) -> Path:
    headers = b"".join(struct.pack("<20sHH14x", *preset) for preset in presets)
    inner = b"phdr" + struct.pack("<I", len(headers)) + headers
    first = b"LIST" + struct.pack("<I", 8) + b"INFO" + b"abcd"
    body = b"sfbk" + first + b"LIST" + struct.pack("<I", 4 + len(inner)) + b"pdta" + inner
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def test_drum_presets_are_those_of_the_drum_bank(tmp_path: Path) -> None:
    font = _soundfont(tmp_path / "a.sf2", [(b"Brush", 40, 128), (b"Piano", 0, 0), (b"Standard", 0, 128)])
    presets = drum_presets(font)
    assert [(preset.program, preset.name) for preset in presets] == [(0, "Standard"), (40, "Brush")]
    assert presets[0].articulations[38] == "snare"
    assert presets[1].articulations[38] == "snare_brush"


def test_a_missing_soundfont_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingSoundsError, match="apt-get install fluidsynth"):
        drum_presets(tmp_path / "absent.sf2")


def test_missing_fluidsynth_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfonts.shutil, "which", lambda program: None)
    font = _soundfont(tmp_path / "a.sf2", [(b"Standard", 0, 128)])
    with pytest.raises(MissingSoundsError, match="fluidsynth is missing: apt-get install"):
        soundfonts.record(font)
