"""The sound of composed pieces: own synthesiser, SoundFonts."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtests.music_corpus import hear
from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.music.composer import render_plan
from serve_app.models.music.composer.arrangement import compose
from serve_app.models.music.composer.drum_sounds import drum_sound
from serve_app.models.music.composer.render import play
from serve_app.models.music.composer.rhythm import CRASH, KICK, SNARE
from serve_app.models.music.composer.voices import sound_of
from serve_app.models.music.composer.wavetable import RATE, num_harmonics
from serve_app.models.music.instruments import INSTRUMENTS, Role
from tests.unit.models.music.plans import plan, several_plans

PITCHED = [each.name for each in INSTRUMENTS.values() if Role.DRUMS not in each.roles]
SOUNDFONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")


@pytest.mark.parametrize("duration_s", [5.0, 12.3])
@pytest.mark.parametrize("arousal", [-0.9, 0.9])
def test_pieces_have_exactly_the_asked_length_and_a_clean_signal(duration_s: float, arousal: float):
    audio, midi = render_plan(plan(arousal=arousal, duration_s=duration_s))
    assert audio.shape == (round(duration_s * RATE), 2)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    assert 0.5 < np.abs(audio).max() < 0.9
    assert np.abs(audio.mean(axis=0)).max() < 0.005
    assert np.abs(audio[-20:]).max() < 1e-3
    assert np.abs(audio[0]).max() < 0.02
    assert midi.startswith(b"MThd")


@pytest.mark.slow
def test_a_piece_of_two_minutes_has_exactly_its_length():
    audio, _ = render_plan(plan(duration_s=120))
    assert audio.shape == (120 * RATE, 2)


@pytest.mark.slow
def test_no_piece_falls_silent_before_its_end():
    for made in several_plans(4, duration_s=12):
        audio, _ = render_plan(made)
        frames = audio[: len(audio) // 2205 * 2205].reshape(-1, 4410)
        levels = 20 * np.log10(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)) + 1e-9)
        assert (levels < -50).mean() < 0.1
        assert levels[: int(len(levels) * 0.8)].min() > -60


def test_the_melody_is_louder_than_each_accompanying_part():
    import pyloudnorm

    meter = pyloudnorm.Meter(RATE)
    for made in several_plans(4, duration_s=10):
        score = compose(made)
        alone, others = (
            dataclasses.replace(score, parts=parts) for parts in (score.parts[:1], score.parts[:1] + score.parts[1:2])
        )
        lead, both = (play(each).astype(np.float64) for each in (alone, others))
        # both are brought to the same peak: the melody alone must not be far below what it is with its accompaniment
        assert meter.integrated_loudness(lead) > meter.integrated_loudness(both) - 6


@pytest.mark.parametrize("instrument", PITCHED)
def test_every_instrument_is_in_tune_starts_and_ends_softly(instrument: str):
    pitch = INSTRUMENTS[instrument].center
    sound = sound_of(instrument, pitch, 1.0, 0.6)
    assert sound.shape[1] == 2
    assert np.isfinite(sound).all()
    assert np.abs(sound[0]).max() < 0.02 * np.abs(sound).max()
    assert np.abs(sound[-1]).max() < 1e-3 * np.abs(sound).max()
    assert _hz_near(sound.mean(axis=1)[:RATE], 440 * 2 ** ((pitch - 69) / 12)) < (
        12 if instrument in ("strings", "synth pad", "synth lead", "organ") else 3  # cents: ensembles are detuned
    )


def test_no_harmonic_lies_above_half_the_sample_rate():
    for pitch in range(20, 120):
        hz = 440 * 2 ** ((pitch - 69) / 12)
        assert num_harmonics(hz) * hz <= max(hz, RATE / 2)


@pytest.mark.parametrize("instrument", ["piano", "synth lead", "trumpet", "gayageum", "violin"])
def test_high_notes_do_not_fold_back(instrument: str):
    hz = 440 * 2 ** ((93 - 69) / 12)
    sound = sound_of(instrument, 93, 1.0, 1.0).mean(axis=1)[8820:39690]
    spectrum = np.abs(np.fft.rfft(sound * np.blackman(len(sound)))) ** 2
    bins = np.fft.rfftfreq(len(sound), 1 / RATE)
    near = np.abs(bins / hz - np.round(bins / hz)) * hz < 120  # vibrato and detuning have sidebands
    assert spectrum[~near & (bins > 200)].sum() < 1e-4 * spectrum.sum()


def test_equal_notes_of_all_instruments_are_about_equally_loud():
    import pyloudnorm

    meter = pyloudnorm.Meter(RATE)
    loudness = [
        meter.integrated_loudness(sound_of(name, INSTRUMENTS[name].center, 1.2, 0.6)[:RATE].astype(np.float64))
        for name in PITCHED
        if Role.LEAD in INSTRUMENTS[name].roles
    ]
    assert max(loudness) - min(loudness) < 8


def test_drums_are_where_they_belong_in_the_spectrum():
    def centroid(drum: int) -> float:
        sound = drum_sound(drum, 0).mean(axis=1)
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        return float((spectrum * np.fft.rfftfreq(len(sound), 1 / RATE)).sum() / spectrum.sum())

    assert centroid(KICK) < 200 < centroid(SNARE) < 4000 < centroid(CRASH)


def test_the_same_plan_sounds_the_same_in_another_process_with_other_threads():
    code = (
        "import hashlib\n"
        "from serve_app.models.music.composer import render_plan\n"
        "from tests.unit.models.music.plans import plan\n"
        "print(hashlib.sha256(render_plan(plan(duration_s=6))[0].tobytes()).hexdigest())\n"
    )
    here = hashlib.sha256(render_plan(plan(duration_s=6))[0].tobytes()).hexdigest()
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    environment["PYTHONPATH"] = os.getcwd()
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == here


def test_progress_rises_to_one_and_a_stop_ends_the_call():
    made = plan(duration_s=6)
    shares: list[float] = []
    render_plan(made, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    with pytest.raises(ProcessingError, match="stopped"):
        render_plan(made, should_stop=stop)
    assert asked == 6


@pytest.mark.skipif(not SOUNDFONT.exists(), reason="Debian's timgm6mb-soundfont is not installed")
def test_a_soundfont_plays_the_same_piece():
    made = plan(duration_s=6, arousal=0.6)
    audio, midi = render_plan(made, soundfont=SOUNDFONT)
    assert audio.shape == (6 * RATE, 2)
    assert 0.5 < np.abs(audio).max() < 0.9
    assert np.abs(audio[:, 0] - audio[:, 1]).max() > 0.05  # stereo
    assert midi == render_plan(made)[1]
    assert np.array_equal(audio, render_plan(made, soundfont=str(SOUNDFONT))[0])
    with pytest.raises(ProcessingError, match="stopped"):
        render_plan(made, soundfont=SOUNDFONT, should_stop=lambda: True)


@pytest.mark.parametrize("content", [None, b"", b"RIFF\0\0\0\0WAVEfmt ", b"RIFF\x10\0\0\0sfbkLIST"])
def test_a_soundfont_that_is_none_is_refused(tmp_path: Path, content: bytes | None):
    path = tmp_path / "voices.sf2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelLoadingError, match=r"voices\.sf2"):
        render_plan(plan(duration_s=5), soundfont=path)


@pytest.mark.slow
def test_an_independent_program_hears_the_key_and_the_tempo():
    plans = [plan(number, valence=valence, arousal=0.5) for number, valence in enumerate((0.6, -0.4) * 6)]
    plans = [dataclasses.replace(each, mode=mode) for each, mode in zip(plans, ("ionian", "aeolian") * 6, strict=True)]
    heard = [hear(render_plan(each)[0], each) for each in plans]
    counts = {what: sum(getattr(each, what) for each in heard) for what in ("tempo", "key")}
    assert counts["tempo"] >= 10
    assert counts["key"] >= 8


def _hz_near(sound: np.ndarray, hz: float) -> float:
    """Return by how many cents the strongest frequency near `hz` is off."""
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size))
    bins = np.fft.rfftfreq(size, 1 / RATE)
    near = (bins > hz / 1.06) & (bins < hz * 1.06)
    peak = bins[near][int(np.argmax(spectrum[near]))]
    return abs(1200 * float(np.log2(peak / hz)))
