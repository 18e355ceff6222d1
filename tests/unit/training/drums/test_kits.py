"""Kits: what they promise of every stroke, and that held-out sounds stay held out. No soundfont is needed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from training.drums import kits
from training.drums.articulations import ARTICULATIONS, LABEL_OF
from training.drums.kits import FAMILIES, Kit, make_kit
from training.drums.recordings import Layer, Recording, level_db, trim
from training.drums.sources import Bank, SampledKit
from training.drums.synthesis import SynthesisedDrums

_VELOCITIES = (0.1, 0.4, 0.7, 1.0)
_RECORDED = ("kick", "snare", "side_stick", "hihat_closed", "hihat_open", "ride", "crash", "tom_low", "tom_high")


def _recording(drums: SynthesisedDrums, articulation: str) -> Recording:
    rng = np.random.default_rng(0)
    layers = [Layer.of(v, trim(drums.render(rng, articulation, v) * v)) for v in (0.5, 1.0)]
    return Recording(articulation, articulation, tuple(layers)).thinned()


@pytest.fixture(scope="module")
def bank() -> Bank:
    """A bank with one acoustic and one electronic kit, as soundfonts would give."""
    found = []
    for name, electronic in (("font/Standard", False), ("font/TR-808", True)):
        drums = SynthesisedDrums(np.random.default_rng(1), "train", electronic=electronic)
        found.append(SampledKit(name, {each: (_recording(drums, each),) for each in _RECORDED}))
    return Bank(tuple(found), {"kick": found[1].recordings["kick"]})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, bank: Bank) -> list[Kit]:
    monkeypatch.setattr(kits, "load_bank", lambda split, folder: bank)
    return [make_kit(np.random.default_rng(seed), "train") for seed in range(6)]


def _attack_s(samples: np.ndarray) -> float:
    power = np.convolve(samples[: kits.SAMPLE_RATE_HZ // 5].astype(np.float64) ** 2, np.ones(44))
    return float(np.argmax(power > 0.03 * power.max()) / kits.SAMPLE_RATE_HZ)


def test_families_hold_each_articulation_once() -> None:
    assert sorted(name for family in FAMILIES for name in family) == sorted(ARTICULATIONS)


def test_every_stroke_is_finite_mono_and_louder_when_harder(made: list[Kit]) -> None:
    for kit in made:
        assert kit.articulations == set(ARTICULATIONS)
        for articulation in ("kick", "snare", "snare_rim", "hihat_closed", "hihat_half", "hihat_pedal", "tom_low"):
            strokes = [kit.stroke(np.random.default_rng(2), articulation, velocity) for velocity in _VELOCITIES]
            assert all(stroke.dtype == np.float32 and stroke.ndim == 1 for stroke in strokes)
            assert all(np.isfinite(stroke).all() for stroke in strokes)
            levels = [level_db(stroke) for stroke in strokes]
            assert all(softer < harder for softer, harder in itertools.pairwise(levels)), articulation


def test_strokes_begin_at_once() -> None:
    rng = np.random.default_rng(3)
    for electronic in (False, True):
        drums = SynthesisedDrums(rng, "train", electronic=electronic)
        for articulation, label in LABEL_OF.items():
            if label != "percussion":
                assert _attack_s(drums.render(rng, articulation, 0.9)) < 0.003, articulation


def test_no_two_strokes_are_the_same(made: list[Kit]) -> None:
    rng = np.random.default_rng(4)
    one, other = (made[0].stroke(rng, "snare", 0.8) for _ in range(2))
    size = min(one.size, other.size)
    assert not np.allclose(one[:size], other[:size], atol=1e-4)


def test_a_seed_makes_the_same_kit_again(monkeypatch: pytest.MonkeyPatch, bank: Bank) -> None:
    monkeypatch.setattr(kits, "load_bank", lambda split, folder: bank)
    first, again = (make_kit(np.random.default_rng(9), "train") for _ in range(2))
    assert first.name == again.name
    heard = [kit.stroke(np.random.default_rng(1), "ride", 0.6) for kit in (first, again)]
    np.testing.assert_array_equal(*heard)


def test_harder_strokes_are_brighter() -> None:
    def brightness(drums: SynthesisedDrums, articulation: str, velocity: float) -> float:
        stroke = drums.render(np.random.default_rng(5), articulation, velocity)
        power = np.abs(np.fft.rfft(stroke[:4410], 4410)) ** 2
        return float(10 * np.log10(power[300:].sum() / power[:300].sum()))  # above and below 3 kHz

    kits_drawn = [SynthesisedDrums(np.random.default_rng(seed), "train") for seed in range(6)]
    for articulation in ("kick", "tom_mid", "crash"):
        gained_db = [
            brightness(drums, articulation, 1.0) - brightness(drums, articulation, 0.15) for drums in kits_drawn
        ]
        assert np.median(gained_db) > 1, articulation
