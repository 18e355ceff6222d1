"""`MetricalTemplates`: where in a bar of four beats each drum is struck, and how likely.

A template is a density over the bar for each label: 1 where strokes are as likely as anywhere, 9 where they are nine
times as likely. One template has kicks on one and three, snares on two and four, hats on all eighths; another a swung
ride. `training/drums/metre.py` learns them as a mixture of multinomials over the strokes of generated songs, with the
tempo range of each (`metre.json`). The log-likelihood of strokes under "a beat of this tempo falls here" is the sum of
the template's logarithm at the strokes' places in the bar. It is a correlation, and is computed for all places at once
from the strokes' Fourier transform at the bar's harmonics (`tempo`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy import fft

BEATS_PER_BAR = 4
PHASES_PER_BEAT = 24  # resolution of the beat's phase before it is fitted to strokes
NUM_HARMONICS = BEATS_PER_BAR * PHASES_PER_BEAT // 2 + 1
# How far strokes scatter about their place: a player's hands and the detector (time), and the tempo grid (beats).
_SCATTER_S, _SCATTER_BEATS = 0.022, 0.02
_FINE_STEPS = 768
_LOWEST_DENSITY = 0.03


@dataclass(frozen=True)
class MetricalTemplates:
    """The templates at some tempos.

    Attributes:
        bpm: (tempos,).
        spectra: (tempos, harmonics, labels, templates) complex64: Fourier series over the bar of each template's log
            density, blurred as strokes scatter at that tempo.
        log_prior: (tempos, templates): how likely this template is at this tempo.
    """

    bpm: NDArray[np.float64]
    spectra: NDArray[np.complex64]
    log_prior: NDArray[np.float32]


def templates_at(bpm: NDArray[np.float64]) -> MetricalTemplates:
    """Return the templates at these tempos, blurred by the scatter of strokes."""
    shapes, share, log2_bpm, log2_bpm_sd = _learned()
    num_steps = shapes.shape[2]
    harmonics = np.arange(_FINE_STEPS // 2 + 1)
    # strokes at the steps of the bar: the spectrum repeats with the number of steps
    impulses = (fft.fft(shapes, axis=2) / num_steps)[:, :, harmonics % num_steps]  # (templates, labels, harmonics)
    bars_per_s = bpm / 60 / BEATS_PER_BAR
    scatter_bars = np.hypot(_SCATTER_S * bars_per_s, _SCATTER_BEATS / BEATS_PER_BAR)
    spectra = np.empty((len(bpm), NUM_HARMONICS, shapes.shape[1], shapes.shape[0]), dtype=np.complex64)
    for index, scatter in enumerate(scatter_bars):
        blurred = impulses * np.exp(-0.5 * (2 * np.pi * harmonics * scatter) ** 2)
        density = np.maximum(fft.irfft(blurred * _FINE_STEPS, _FINE_STEPS, axis=2), _LOWEST_DENSITY)
        spectrum = fft.rfft(np.log(density), axis=2)[:, :, :NUM_HARMONICS] / _FINE_STEPS
        spectra[index] = spectrum.transpose(2, 1, 0)
    spread = (np.log2(bpm)[:, None] - log2_bpm) / log2_bpm_sd  # (tempos, templates)
    log_prior = np.log(share) - 0.5 * spread**2 - np.log(log2_bpm_sd)
    return MetricalTemplates(bpm, spectra, log_prior.astype(np.float32))


@cache
def _learned() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the densities (templates, labels, steps), and (templates,) shares, mean and deviation of log2 bpm."""
    learned = json.loads(resources.files(__package__).joinpath("metre.json").read_text())
    templates = learned["templates"]
    densities = np.array([[template["density"][label] for label in learned["labels"]] for template in templates])
    share, mean, deviation = (
        np.array([template[name] for template in templates]) for name in ("share", "log2_bpm", "log2_bpm_sd")
    )
    return densities, share, mean, deviation
