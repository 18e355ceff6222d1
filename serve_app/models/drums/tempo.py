"""`tempo_path`: tempo and beat phase through a file, from the strokes of its drums.

Every four seconds a window of eight (Hann, so that each stroke counts once in all) is compared with all metrical
templates at all tempos and phases. A Viterbi search finds the best sequence through the windows, where tempo and phase
may shift a little from one to the next, or, at a price, jump (another song, an edit). This is the bar-pointer model of
Krebs, Böck and Widmer, "An efficient state-space model for joint tempo and meter tracking" (ISMIR 2015), with windows
instead of frames, so that ten hours take seconds, and with strokes instead of a spectrum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from serve_app.models.drums.metre import BEATS_PER_BAR, NUM_HARMONICS, PHASES_PER_BEAT, MetricalTemplates, templates_at

# The labels of the metrical templates (`metre`). Any other label counts as percussion.
METRICAL_LABELS = ("kick", "snare", "hihat", "tom", "cymbal", "percussion")


@dataclass(frozen=True)
class OnsetTrain:
    """Strokes of every label, in order of time.

    Attributes:
        time_s: (n,) float64, finite and not falling.
        weight: (n,) float32 in [0, 1]: loud and sure strokes near 1, ghost notes near 0.3.
        label: (n,) index into `METRICAL_LABELS`.
    """

    time_s: NDArray[np.float64]
    weight: NDArray[np.float32]
    label: NDArray[np.intp]

    @classmethod
    def of(cls, time_s: Iterable[float], weight: Iterable[float], label: Iterable[str]) -> OnsetTrain:
        """Return these strokes in order, without those at times that are not finite."""
        times = np.fromiter(time_s, dtype=np.float64)
        weights = np.clip(np.nan_to_num(np.fromiter(weight, dtype=np.float32)), 0.0, 1.0)
        known = {name: index for index, name in enumerate(METRICAL_LABELS)}
        other = known["percussion"]
        labels = np.fromiter((known.get(name, other) for name in label), dtype=np.intp)
        order = np.argsort(times, kind="stable")
        order = order[np.isfinite(times[order])]
        return cls(times[order], weights[order], labels[order])

    def __len__(self) -> int:
        return len(self.time_s)

    def between(self, start_s: float, end_s: float) -> OnsetTrain:
        """Return the strokes in [start_s, end_s)."""
        kept = slice(*np.searchsorted(self.time_s, (start_s, end_s)))
        return OnsetTrain(self.time_s[kept], self.weight[kept], self.label[kept])


LOWEST_BPM, HIGHEST_BPM = 48.0, 230.0
LOWEST_OCTAVE_BPM, HIGHEST_OCTAVE_BPM = 40.0, 240.0  # of half or twice the tempo, told as the alternative
_NUM_TEMPOS = 120  # 1.3 % apart
HOP_S = 4.0
_RATE_HZ = 64
_FFT_SIZE = 2048  # four times the window's length: its spectrum can be read between bins
_WINDOWS_AT_ONCE = 32
# Strokes repeat a pattern, so they are not independent: this part of their log-likelihood counts. The prices below have
# the same unit. All were tuned on generated songs (other seeds than those of the reports).
_EVIDENCE = 0.25
_TEMPLATE_PRIOR = 0.1
_TEMPO_PRIOR = 0.3
# Where strokes are ambiguous (even hats) a beat in the middle of the range is likelier. Per window, octaves.
_LIKELY_BPM, _LIKELY_SPREAD = 115.0, 1.0
_TEMPO_SHIFT_PRICE, _PHASE_SHIFT_PRICE = 1.0, 0.6
_NEW_PHASE_PRICE, _NEW_TEMPO_PRICE = 8.0, 12.0
_PRICE_AFTER_SILENCE = 0.3
_LONGEST_PAUSE_S = 8.0  # after a longer pause the beat begins anew
_FIRST_STROKE_BONUS = 0.5  # recordings mostly begin on a beat
_SHIFTS = (-2, -1, 0, 1, 2)


@dataclass(frozen=True)
class TempoPath:
    """Tempo and phase at the middle of each window that holds strokes.

    Attributes:
        time_s: (windows,) rising.
        bpm: (windows,).
        phase: (windows,) of the beat, in [0, 1), at `time_s`.
        is_new: (windows,) whether the window does not continue the one before.
    """

    time_s: NDArray[np.float64]
    bpm: NDArray[np.float64]
    phase: NDArray[np.float64]
    is_new: NDArray[np.bool_]


def tempo_path(onsets: OnsetTrain) -> TempoPath:
    """Return the likeliest tempo and phase through the strokes; there must be at least one."""
    templates = _templates()
    centers_s = _window_centers_s(onsets)
    steps_s = np.diff(centers_s)
    num_states = _NUM_TEMPOS * PHASES_PER_BEAT
    origins = np.zeros((len(centers_s), num_states), dtype=np.uint16)
    is_jump = np.zeros((len(centers_s), num_states), dtype=np.bool_)
    value = _first_values(float(onsets.time_s[0] - centers_s[0]), templates)
    for index, evidence in enumerate(_evidence(onsets, centers_s, templates)):
        if index:
            value, origins[index], is_jump[index] = _advance(value, float(steps_s[index - 1]))
        value = value + evidence.ravel()
        value -= value.max()
    states = np.empty(len(centers_s), dtype=np.intp)
    states[-1] = value.argmax()
    for index in range(len(states) - 1, 0, -1):
        states[index - 1] = origins[index, states[index]]
    is_new = is_jump[np.arange(len(states)), states]
    is_new[1:] |= steps_s > _LONGEST_PAUSE_S
    tempo, phase = np.divmod(states, PHASES_PER_BEAT)
    return TempoPath(centers_s, templates.bpm[tempo], phase / PHASES_PER_BEAT, is_new)


def constant_phase(onsets: OnsetTrain, bpm: float) -> float:
    """Return the phase of the beat, in [0, 1), at time 0 that fits the strokes best at a given tempo."""
    centers_s = _window_centers_s(onsets)
    total = np.zeros(PHASES_PER_BEAT)
    places = np.arange(PHASES_PER_BEAT)
    for center_s, evidence in zip(centers_s, _evidence(onsets, centers_s, templates_at(np.array([bpm]))), strict=True):
        here = (places + center_s * bpm / 60 * PHASES_PER_BEAT) % PHASES_PER_BEAT
        total += np.interp(here, places, evidence[0], period=PHASES_PER_BEAT)
    return float(total.argmax()) / PHASES_PER_BEAT


# Where the path's tempo is no more than this likelier, for each window, half or twice of it may be meant. Chosen on
# generated songs (docs/models/drum-tempo.md).
_SURE_MARGIN = 0.4


def octave_in_doubt(onsets: OnsetTrain, path: TempoPath) -> float | None:
    """Return 0.5 or 2.0 where that multiple of the path's tempo explains the strokes nearly as well; else None.

    Each window's likelihood at the multiple, at its best phase, is compared with that at the path's tempo.
    """
    tempos, of_window = np.unique(path.bpm, return_inverse=True)
    own = _best_in_all(onsets, path, tempos, of_window)
    usual_bpm = float(np.median(path.bpm))
    margins = {
        ratio: own - _best_in_all(onsets, path, tempos * ratio, of_window)
        for ratio in (0.5, 2.0)
        if LOWEST_OCTAVE_BPM <= usual_bpm * ratio <= HIGHEST_OCTAVE_BPM
    }
    ratio = min(margins, key=margins.__getitem__, default=None)
    return ratio if ratio is not None and margins[ratio] < _SURE_MARGIN * len(path.bpm) else None


def _best_in_all(onsets: OnsetTrain, path: TempoPath, bpm: NDArray[np.float64], of_window: NDArray[np.intp]) -> float:
    evidence = _evidence(onsets, path.time_s, templates_at(bpm))
    return sum(float(window[tempo].max()) for window, tempo in zip(evidence, of_window, strict=True))


def _first_values(first_stroke_s: float, templates: MetricalTemplates) -> NDArray[np.float32]:
    """Return a bonus for the states, at the first window's middle, with a beat on the first stroke after it."""
    phase = np.arange(PHASES_PER_BEAT) / PHASES_PER_BEAT + first_stroke_s * templates.bpm[:, None] / 60
    return (0.5 * _FIRST_STROKE_BONUS * (1 + np.cos(2 * np.pi * phase))).ravel().astype(np.float32)


@cache
def _templates() -> MetricalTemplates:
    return templates_at(np.geomspace(LOWEST_BPM, HIGHEST_BPM, _NUM_TEMPOS))


def _window_centers_s(onsets: OnsetTrain) -> NDArray[np.float64]:
    """Return the middles of the windows that hold strokes, multiples of the hop."""
    before = np.floor(onsets.time_s / HOP_S)
    return np.unique(np.concatenate([before, before + 1])) * HOP_S


def _evidence(
    onsets: OnsetTrain, centers_s: NDArray[np.float64], templates: MetricalTemplates
) -> Iterator[NDArray[np.float32]]:
    """Yield each window's log-likelihood at each tempo and phase of the beat at its middle, (tempos, phases).

    It is the maximum over the templates and the bar's four beats.
    """
    num_tempos, _, num_labels, num_templates = templates.spectra.shape
    harmonics_hz = np.arange(NUM_HARMONICS) * templates.bpm[:, None] / (60 * BEATS_PER_BAR)  # (tempos, harmonics)
    series = np.where((harmonics_hz < 0.45 * _RATE_HZ)[:, :, None, None], templates.spectra, 0)
    series = series.reshape(-1, num_labels, num_templates)
    position = np.minimum(harmonics_hz / _RATE_HZ, 0.49).ravel() * _FFT_SIZE
    bin_below = position.astype(np.intp)
    part = (position - bin_below).astype(np.float32)
    places = BEATS_PER_BAR * PHASES_PER_BEAT
    likely = -0.5 * (np.log2(templates.bpm / _LIKELY_BPM) / _LIKELY_SPREAD) ** 2
    of_template = templates.log_prior - np.logaddexp.reduce(templates.log_prior, axis=1, keepdims=True)
    prior = (_TEMPLATE_PRIOR * of_template.T + _TEMPO_PRIOR * likely)[:, :, None].astype(np.float32)
    for start in range(0, len(centers_s), _WINDOWS_AT_ONCE):
        spectra = _window_spectra(onsets, centers_s[start : start + _WINDOWS_AT_ONCE])  # (windows, labels, bins)
        found = (spectra[:, :, bin_below] * (1 - part) + spectra[:, :, bin_below + 1] * part).conj()
        matched = found.transpose(2, 0, 1) @ series  # (tempos x harmonics, windows, templates)
        matched = matched.reshape(num_tempos, NUM_HARMONICS, len(spectra), num_templates).transpose(2, 3, 0, 1)
        for window in matched:  # (templates, tempos, harmonics)
            likelihood = fft.irfft(window, places, axis=2) * np.float32(_EVIDENCE * places) + prior
            yield likelihood.reshape(num_templates, num_tempos, BEATS_PER_BAR, PHASES_PER_BEAT).max(axis=(0, 2))


def _window_spectra(onsets: OnsetTrain, centers_s: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Return the Fourier transform of each window's strokes, by label, time counted from its middle."""
    half = round(HOP_S * _RATE_HZ)
    signal = np.zeros((len(centers_s), len(METRICAL_LABELS), _FFT_SIZE), dtype=np.float32)
    for index, center_s in enumerate(centers_s):
        inside = onsets.between(center_s - HOP_S, center_s + HOP_S)
        offset_s = inside.time_s - center_s
        weight = inside.weight * (0.5 + 0.5 * np.cos(np.pi * offset_s / HOP_S))
        place = offset_s * _RATE_HZ + half
        below = place.astype(np.intp)
        part = place - below
        # time 0 of the transform is the window's middle: its first half wraps round to the end
        np.add.at(signal[index], (inside.label, (below - half) % _FFT_SIZE), weight * (1 - part))
        np.add.at(signal[index], (inside.label, (below + 1 - half) % _FFT_SIZE), weight * part)
    return fft.rfft(signal, axis=2)


def _advance(
    value: NDArray[np.float32], step_s: float
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.bool_]]:
    """Return for each state after `step_s` the best value that leads to it, of which state, and whether by a jump."""
    origin, price = _small_shifts(round(step_s, 3))
    reached = value[origin] - price  # (shifts, states)
    choice = reached.argmax(axis=0)
    states = np.arange(len(value))
    best, best_origin = reached[choice, states], origin[choice, states]
    easing = _PRICE_AFTER_SILENCE if step_s > HOP_S else 1.0
    by_tempo = value.reshape(_NUM_TEMPOS, PHASES_PER_BEAT)
    same_tempo = np.repeat(by_tempo.max(axis=1) - _NEW_PHASE_PRICE * easing, PHASES_PER_BEAT)
    same_tempo_origin = np.repeat(by_tempo.argmax(axis=1) + np.arange(_NUM_TEMPOS) * PHASES_PER_BEAT, PHASES_PER_BEAT)
    anywhere = value.max() - _NEW_TEMPO_PRICE * easing
    jump = np.maximum(same_tempo, anywhere)
    jump_origin = np.where(same_tempo >= anywhere, same_tempo_origin, value.argmax())
    is_jump = jump > best
    return np.where(is_jump, jump, best), np.where(is_jump, jump_origin, best_origin), is_jump


@lru_cache(maxsize=4)  # nearly all steps are of one hop; after a pause they are longer
def _small_shifts(step_s: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the states that lead to each by small shifts of tempo and phase, and the prices; both (shifts, states)."""
    tempo, phase = np.arange(_NUM_TEMPOS)[:, None], np.arange(PHASES_PER_BEAT)[None, :]
    bpm = _templates().bpm
    origins, prices = [], []
    for tempo_shift in _SHIFTS:
        tempo_before = np.clip(tempo - tempo_shift, 0, _NUM_TEMPOS - 1)
        beats = step_s * (bpm[tempo_before] + bpm[tempo]) / 120
        exact = phase - beats * PHASES_PER_BEAT
        nearest = np.round(exact)
        for phase_shift in _SHIFTS:
            origins.append((tempo_before * PHASES_PER_BEAT + (nearest + phase_shift) % PHASES_PER_BEAT).ravel())
            off = phase_shift + nearest - exact
            prices.append((_TEMPO_SHIFT_PRICE * tempo_shift**2 + _PHASE_SHIFT_PRICE * off**2).ravel())
    return np.array(origins, dtype=np.intp), np.array(prices, dtype=np.float32)
