import numpy as np
import pytest

from serve_app.models.drums.metre import BEATS_PER_BAR, NUM_HARMONICS, templates_at
from serve_app.models.drums.tempo import METRICAL_LABELS

PLACES = np.arange(48) / 48


def log_density(bpm: float) -> np.ndarray:
    """Evaluate the templates' Fourier series at twelfths of a beat: (templates, labels, places)."""
    spectrum = templates_at(np.array([bpm])).spectra[0]  # (harmonics, labels, templates)
    waves = np.exp(2j * np.pi * np.arange(NUM_HARMONICS)[:, None] * PLACES)
    waves[1:] *= 2
    return np.einsum("hlt,hp->tlp", spectrum, waves).real


@pytest.mark.parametrize("bpm", [60.0, 120.0, 200.0])
def test_strokes_are_likelier_on_the_beat_than_just_beside_it(bpm):
    densities = log_density(bpm)
    on_beat = densities[:, :, ::12]
    beside = densities[:, :, 1::12]
    likeliest = templates_at(np.array([bpm])).log_prior[0].argmax()
    assert (on_beat[likeliest] > beside[likeliest]).all()


def test_some_template_is_the_backbeat():
    densities = log_density(110.0)
    kick, snare = densities[:, METRICAL_LABELS.index("kick")], densities[:, METRICAL_LABELS.index("snare")]
    found = False
    for first in range(BEATS_PER_BAR):
        beats = [(first + beat) % BEATS_PER_BAR * 12 for beat in range(4)]
        one, two, three, four = beats
        found |= bool(
            ((kick[:, one] > kick[:, two] + 1) & (kick[:, three] > kick[:, four] + 1)
             & (snare[:, two] > snare[:, one] + 1) & (snare[:, four] > snare[:, three] + 1)).any()
        )  # fmt: skip
    assert found


def test_templates_are_blurred_more_at_fast_tempos():
    slow, fast = log_density(60.0), log_density(200.0)
    contrast = [np.ptp(densities[:, METRICAL_LABELS.index("snare")], axis=1) for densities in (slow, fast)]
    assert (contrast[1] < contrast[0]).mean() > 0.9
