"""How well a network hears drums: thresholds tuned on validation songs, figures on songs of kits never heard."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch

from serve_app.models.drums.activations import LEAD_FRAMES
from serve_app.models.drums.hits import Peaks, pick_peaks
from serve_app.models.drums.network import LABELS, DrumNetwork
from serve_app.results import Drum
from training.drums.articulations import ARTICULATIONS
from training.drums.matching import Counts, count, match
from training.drums.shards import SURE, UNSURE, Example

DRUMS = tuple(drum.value for drum in Drum)
WINDOW_S = 0.05  # as MIREX has it
_LEAST = 0.05
_THRESHOLDS = np.round(np.arange(0.1, 0.86, 0.025), 3)


@dataclass(frozen=True)
class Heard:
    """A song, and what the network made of it.

    Attributes:
        peaks: for each drum, all from a low threshold on.
        levels_db: (frames, labels).
    """

    example: Example
    peaks: Mapping[str, Peaks]
    levels_db: np.ndarray

    def found_s(self, drum: str, threshold: float) -> np.ndarray:
        """Return the times of the drum's strokes."""
        peaks = self.peaks[drum]
        return peaks.times_s[peaks.confidences >= threshold]

    def counts(self, drum: str, threshold: float, window_s: float = WINDOW_S) -> Counts:
        """Return what is right and wrong."""
        times_s = self.example.times_s
        sure, unsure = (times_s[self.example.strokes_of(drum, kind)] for kind in (SURE, UNSURE))
        return count(sure, unsure, self.found_s(drum, threshold), window_s)


def hear(network: DrumNetwork, examples: Iterable[Example]) -> list[Heard]:
    """Return what the network makes of songs, each in one piece behind the silence that `cut_pieces` puts there."""
    device = next(network.parameters()).device
    heard = []
    for example in examples:
        led = np.pad(example.bands.astype(np.float32), ((LEAD_FRAMES, 0), (0, 0)))
        with torch.inference_mode():
            output = network(torch.from_numpy(led)[None].to(device))
        probabilities = output.logits[0, LEAD_FRAMES:].sigmoid().cpu().numpy()
        peaks = {drum: pick_peaks(probabilities[:, LABELS.index(drum)], _LEAST) for drum in DRUMS}
        heard.append(Heard(example, peaks, output.levels_db[0, LEAD_FRAMES:].cpu().numpy()))
    return heard


def tune(heard: Sequence[Heard]) -> dict[str, float]:
    """Return for each drum the threshold with the best F-measure of all strokes together."""

    def best(drum: str) -> float:
        measures = [pooled(heard, drum, threshold).f_measure for threshold in _THRESHOLDS]
        return float(_THRESHOLDS[int(np.nanargmax(measures))])

    return {drum: best(drum) for drum in DRUMS}


def pooled(heard: Iterable[Heard], drum: str, threshold: float, window_s: float = WINDOW_S) -> Counts:
    """Return the counts of all songs together."""
    return reduce(add, (each.counts(drum, threshold, window_s) for each in heard), Counts())


def summary(heard: Sequence[Heard], thresholds: Mapping[str, float]) -> dict[str, float]:
    """Return the F-measure of each drum and their mean."""
    measures = {drum: pooled(heard, drum, thresholds[drum]).f_measure for drum in DRUMS}
    return measures | {"mean": float(np.mean(list(measures.values())))}


def report(heard: Sequence[Heard], thresholds: Mapping[str, float]) -> str:
    """Return the figures of a set of songs as Markdown tables."""
    minutes = sum(len(each.example.bands) for each in heard) / 6000
    lines = [f"{len(heard)} songs, {minutes:.0f} minutes", "", _overall(heard, thresholds), ""]
    for title, group in (("kit", kit_family), ("genre", lambda example: str(example.about.get("genre")))):
        lines += [_by_group(heard, thresholds, title, group), ""]
    return "\n".join(lines)


def kit_family(example: Example) -> str:
    """Return what sort of kit a song is played on: the beginning of its name."""
    return str(example.about["kit"]).split(":")[0].split("/")[0]


def _overall(heard: Sequence[Heard], thresholds: Mapping[str, float]) -> str:
    lines = [
        "| | strokes | threshold | precision | recall | F 50 ms | F 30 ms | F 20 ms | mean F of songs | level, r |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for drum in DRUMS:
        threshold = thresholds[drum]
        counts = pooled(heard, drum, threshold)
        narrower = [pooled(heard, drum, threshold, window_s).f_measure for window_s in (0.03, 0.02)]
        songs = [each.counts(drum, threshold).f_measure for each in heard]
        cells = [counts.precision, counts.recall, counts.f_measure, *narrower, np.nanmean(songs)]
        cells.append(level_correlation(heard, drum, threshold))
        figures = " | ".join(f"{cell:.3f}" for cell in cells)
        lines.append(f"| {drum} | {counts.right + counts.missed} | {threshold:.3f} | {figures} |")
    return "\n".join(lines)


def _by_group(
    heard: Sequence[Heard], thresholds: Mapping[str, float], title: str, group: Callable[[Example], str]
) -> str:
    groups: dict[str, list[Heard]] = defaultdict(list)
    for each in heard:
        groups[group(each.example)].append(each)
    lines = [f"| {title} | songs | {' | '.join(f'{drum} F' for drum in DRUMS)} |", "| --- " * (2 + len(DRUMS)) + "|"]
    for name, own in sorted(groups.items()):
        cells = [pooled(own, drum, thresholds[drum]).f_measure for drum in DRUMS]
        lines.append(f"| {name} | {len(own)} | {' | '.join('–' if c != c else f'{c:.3f}' for c in cells)} |")
    return "\n".join(lines)


def level_correlation(heard: Sequence[Heard], drum: str, threshold: float) -> float:
    """Return how the told levels of right strokes go with the true ones (Pearson), song by song in the mean.

    Within a song, since that is what velocity is: songs differ in level for other reasons.
    """
    label, correlations = LABELS.index(drum), []
    for each in heard:
        sure, peaks = each.example.strokes_of(drum), each.peaks[drum]
        kept = np.flatnonzero(peaks.confidences >= threshold)
        pairs = match(each.example.times_s[sure], peaks.times_s[kept], WINDOW_S)
        true_db = each.example.levels_db[sure[pairs[:, 0]]]
        told_db = each.levels_db[peaks.frames[kept[pairs[:, 1]]], label]
        if len(pairs) >= 8 and np.std(true_db) > 1.0 and np.std(told_db) > 0:
            correlations.append(float(np.corrcoef(true_db, told_db)[0, 1]))
    return float(np.mean(correlations)) if correlations else float("nan")


def mistakes(heard: Sequence[Heard], thresholds: Mapping[str, float]) -> str:
    """Return for each drum what was played where it was found in vain, and which of its strokes were not found."""
    lines = []
    for drum in DRUMS:
        vain: Counter[str] = Counter()
        missed: Counter[str] = Counter()
        played: Counter[str] = Counter()
        num_found, levels_db = 0, []
        for each in heard:
            example, found_s = each.example, each.found_s(drum, thresholds[drum])
            sure, unsure = (example.strokes_of(drum, kind) for kind in (SURE, UNSURE))
            pairs = match(example.times_s[sure], found_s, WINDOW_S)
            left_s = np.delete(found_s, pairs[:, 1])
            left_s = np.delete(left_s, match(example.times_s[unsure], left_s, WINDOW_S)[:, 1])
            num_found += len(found_s)
            for time_s in left_s:
                near = np.flatnonzero(np.abs(example.times_s - time_s) < WINDOW_S)
                loudest = near[np.argmax(example.levels_db[near])] if len(near) else None
                vain["nothing" if loudest is None else ARTICULATIONS[example.articulations[loudest]]] += 1
            lost = np.delete(sure, pairs[:, 0])
            played.update(ARTICULATIONS[index] for index in example.articulations[sure])
            for index in lost:
                missed[ARTICULATIONS[example.articulations[index]]] += 1
                around = np.flatnonzero(np.abs(example.times_s - example.times_s[index]) < WINDOW_S)
                levels_db.append(float(example.levels_db[index] - example.levels_db[around].max()))
        lines.append(f"{drum}: in vain {sum(vain.values())} of {num_found}, where there was (the loudest)")
        lines.append("  " + ", ".join(f"{name} {num}" for name, num in vain.most_common(12)))
        lines.append(f"  missed {sum(missed.values())}; by articulation, and the share of its strokes:")
        lines.append("  " + ", ".join(f"{name} {num} ({num / played[name]:.0%})" for name, num in missed.most_common()))
        if levels_db:
            quartiles = ", ".join(f"{level:.0f}" for level in np.percentile(levels_db, [10, 25, 50, 75, 90]))
            lines.append(f"  level of those below the loudest stroke within 50 ms, dB at 10/25/50/75/90 %: {quartiles}")
    return "\n".join(lines)
