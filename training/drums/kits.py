"""Drum kits to play songs on, put together from recorded and synthesised drums and shaped: no two alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from training.drums import one_shots
from training.drums.articulations import HIHATS, LABEL_OF, TOMS
from training.drums.modal import SAMPLE_RATE_HZ, Split
from training.drums.recordings import Recording
from training.drums.shaping import Shape, draw_shape, dulled, shelf
from training.drums.sources import SOUNDS, Bank, SampledDrums, SampledKit, Source, load_bank
from training.drums.synthesis import SynthesisedDrums

__all__ = ["SAMPLE_RATE_HZ", "Kit", "Split", "held_out_kits", "make_kit"]


class Kit(Protocol):
    """A drum kit that stands in one place: each of its drums sounds alike from stroke to stroke, never the same.

    Attributes:
        name: its sort, a colon, and what it is made of.
        articulations: all that it can play; kits of this package play all of `ARTICULATIONS`.
    """

    name: str
    articulations: frozenset[str]

    def stroke(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return one stroke, (n,) float32 mono at 44.1 kHz with the attack within 3 ms of its first sample.

        Args:
            rng: draws what differs from one stroke to the next.
            articulation: one of `articulations`.
            velocity: in (0, 1]; a harder stroke is louder and brighter. Drums keep their natural balance: at velocity 1
                the kit's loudest drums peak near full scale.
        """


# drums that are one thing, or hang together
FAMILIES = (
    ("kick",),
    ("snare", "snare_rim", "side_stick"),
    ("snare_brush",),
    HIHATS,
    ("ride", "ride_bell"),
    ("crash",),
    ("splash",),
    ("china",),
    TOMS,
    *((name,) for name, label in LABEL_OF.items() if label == "percussion" and name != "side_stick"),
)
# the loudest 20 ms of a hard stroke, in dB beside the snare drum's, as a pair of microphones above a kit hears it
_BALANCE_DB = {
    "kick": 0.0,
    "snare": 0.0,
    "snare_rim": 2.0,
    "snare_brush": -13.0,
    "side_stick": -7.0,
    "hihat_closed": -13.0,
    "hihat_half": -10.0,
    "hihat_open": -9.0,
    "hihat_pedal": -17.0,
    "ride": -14.0,
    "ride_bell": -10.0,
    "crash": -4.0,
    "splash": -8.0,
    "china": -5.0,
    "tom_high": -1.5,
    "tom_mid": -1.0,
    "tom_low": -0.5,
    "clap": -4.0,
    "tambourine": -12.0,
    "cowbell": -7.0,
    "shaker": -18.0,
    "woodblock": -8.0,
    "conga": -4.0,
    "other": -9.0,
}
# where a drum's tone is changed
_TONE_HZ = {"kick": (60.0, 5000.0), "snare": (150.0, 9000.0), "tom": (80.0, 5000.0)}
_BRIGHT_HZ = (600.0, 13_000.0)
_FULL_STROKE_DB = -11.0  # level of the hardest stroke on the snare drum, which then peaks near full scale
_MOST_OFF_DB = 8.0  # that a recorded kit's own balance may differ from the usual one
_PEDAL = tuple(shelf(6000.0, -9.0))  # what a closing by foot lacks of a stroke on the closed hi-hat
_LAYERS = (0.14, 0.32, 0.6, 1.0)
_TAKES = 2
_LAYERS_LONG = (0.25, 0.6, 1.0)
_LONG = frozenset({"ride", "ride_bell", "crash", "splash", "china", "hihat_open"})


Layered = tuple[Source, str, float]  # what sounds, as which articulation of the source, with which gain in dB


@dataclass(frozen=True, slots=True)
class Part:
    """One articulation of a kit.

    Attributes:
        sources: what sounds together.
        shapes: one for each source.
        level_db: of the hardest stroke.
        dynamics: how much of the first source's own difference between soft and hard strokes is kept.
    """

    sources: tuple[Layered, ...]
    shapes: tuple[Shape, ...]
    level_db: float
    dynamics: float

    def stroke_db(self, velocity: float) -> float:
        """Return the level of a stroke."""
        source, articulation, _ = self.sources[0]
        below = source.level_db(articulation, velocity) - source.level_db(articulation, 1.0)
        return self.level_db + self.dynamics * below

    def render(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke whose loudest 20 ms are near 0 dB."""
        total = np.zeros(0, np.float32)
        for (source, articulation, gain_db), shape in zip(self.sources, self.shapes, strict=True):
            softer = 0.0
            if isinstance(source, SampledDrums):
                softer = max(0.0, source.layer_velocity(articulation, velocity) - velocity)
            heard = shape.varied(rng).apply(source.render(rng, articulation, velocity), softer=softer)
            heard = heard * np.float32(10 ** (gain_db / 20))
            if heard.size > total.size:
                total, heard = heard, total
            total[: heard.size] += heard
        return total


class ShapedKit:
    """A kit of parts. A few strokes of each are made when first asked for, and blended for the others."""

    def __init__(self, name: str, parts: Mapping[str, Part]) -> None:
        self.name = name
        self.articulations = frozenset(parts)
        self._parts = dict(parts)
        self._made: dict[tuple[str, int, int], tuple[np.ndarray, np.ndarray]] = {}

    def stroke(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return one stroke, as `Kit` has it."""
        part = self._parts[articulation]
        velocity = min(max(velocity, 0.03), 1.0)
        layers = _LAYERS_LONG if articulation in _LONG else _LAYERS
        wanted = math.log(velocity) + rng.normal(0, 0.08)  # no velocity at which the sound jumps
        layer = min(range(len(layers)), key=lambda number: abs(math.log(layers[number]) - wanted))
        key = articulation, layer, int(rng.integers(_TAKES))
        if key not in self._made:
            sharp = part.render(rng, layers[layer])
            self._made[key] = sharp, dulled(sharp)
        sharp, dull = self._made[key]
        gain = 10 ** (part.stroke_db(velocity) / 20)
        share = float(rng.beta(1.3, 3.5)) * 0.6
        return sharp * np.float32(gain * (1 - share)) + dull * np.float32(gain * share)


def make_kit(rng: np.random.Generator, split: Split, folder: Path = SOUNDS) -> Kit:
    """Return a kit that was not heard before, of the split's own sources.

    Raises:
        MissingSoundsError: if the soundfonts were not recorded to the folder yet and cannot be.
    """
    return _Maker(rng, split, load_bank(split, folder)).make()


def held_out_kits(folder: Path = SOUNDS) -> list[Kit]:
    """Return fixed kits whose sounds no kit of the split "train" shares.

    They are the kits of the held-out soundfont as they are, the recorded kit of the one-shots, what else was held out
    of these, and synthesised ones.
    """
    bank = load_bank("held_out", folder)
    kits: list[Kit] = []
    makers = (_Maker(np.random.default_rng([2026, number]), "held_out", bank, depth=0.0) for number in range(1000))
    kits += [next(makers).whole(kit) for kit in bank.kits if "kick" in kit.recordings]
    if bank.one_shots:
        kits.append(next(makers).recorded("drum_"))
        kits += [next(makers).loose() for _ in range(3)]
    kits += [next(makers).synthesised(electronic=number % 3 == 2) for number in range(6)]
    return kits


class _Maker:
    """Puts one kit together."""

    def __init__(self, rng: np.random.Generator, split: Split, bank: Bank, depth: float | None = None) -> None:
        self._rng, self._split, self._bank = rng, split, bank
        self._depth = float(rng.choice([0.35, 0.7, 1.0])) if depth is None else depth
        self._dynamics = float(rng.uniform(0.55, 1.05))
        self._loose_db = 1.0 + 2.0 * self._depth
        self._sampled_kits = [kit for kit in bank.kits if {"kick", "snare", "hihat_closed"} <= kit.recordings.keys()]

    def make(self) -> Kit:
        """Return a kit of one of the sorts."""
        draw = self._rng.random()
        acoustic = [kit for kit in self._sampled_kits if not kit.electronic]
        if draw < 0.3:
            return self.whole(self._pick(acoustic))
        if draw < 0.62:
            return self.mixed()
        if draw < 0.82:
            return self.synthesised(electronic=False)
        if draw < 0.94:
            return self.electronic()
        return self.mixed(anything=True)

    def whole(self, kit: SampledKit) -> Kit:
        """Return a recorded kit; what it lacks is synthesised."""
        sources = {family: [kit.drawn(self._rng)] for family in FAMILIES}
        return self._assemble(f"{kit.name.replace('/', ':', 1)}", sources, self._synthesis(kit.electronic), own=True)

    def recorded(self, prefix: str) -> Kit:
        """Return the kit that one-shots of one name are."""
        chosen = {
            articulation: next(recording for recording in group if recording.name.startswith(prefix))
            for articulation, group in self._bank.one_shots.items()
            if any(recording.name.startswith(prefix) for recording in group)
        }
        drums = SampledDrums(prefix, chosen)
        return self._assemble(f"one_shots:{prefix}", {family: [drums] for family in FAMILIES}, self._synthesis())

    def loose(self) -> Kit:
        """Return a kit of one-shots, each drawn by itself."""
        sources = {family: [self._one_shots(family)] for family in FAMILIES}
        return self._assemble("one_shots:mixed", sources, self._synthesis())

    def synthesised(self, *, electronic: bool) -> Kit:
        """Return a kit without recordings."""
        drums = self._synthesis(electronic)
        return self._assemble(f"synthesised:{drums.name}", {family: [drums] for family in FAMILIES}, drums)

    def electronic(self) -> Kit:
        """Return a drum machine, of machines recorded and synthesised."""
        machines = [kit for kit in self._sampled_kits if kit.electronic]
        sources: dict[tuple[str, ...], list[Source]] = {}
        for family in FAMILIES:
            draw = self._rng.random()
            sources[family] = [self._synthesis(electronic=True)]
            if draw < 0.3 and machines:
                sources[family] = [self._pick(machines).drawn(self._rng)]
            elif draw < 0.6:
                sources[family] = [self._one_shots(family)]
        self._layer(sources, 0.25)
        return self._assemble("electronic:mixed", sources, self._synthesis(electronic=True))

    def mixed(self, *, anything: bool = False) -> Kit:
        """Return a kit of drums from several kits, acoustic ones unless `anything` goes."""
        kits = [kit for kit in self._sampled_kits if anything or not kit.electronic]
        share = self._rng.uniform(0.2, 0.8)
        drums = self._synthesis()
        sources: dict[tuple[str, ...], list[Source]] = {}
        for family in FAMILIES:
            draw = self._rng.random()
            if draw < share:
                sources[family] = [self._pick(kits).drawn(self._rng)]
            elif draw < share + 0.15:
                sources[family] = [self._one_shots(family, acoustic=not anything)]
            else:
                sources[family] = [self._synthesis(anything and self._rng.random() < 0.5)]
        self._layer(sources, 0.12)
        return self._assemble("anything:mixed" if anything else "acoustic:mixed", sources, drums)

    def _pick(self, kits: Sequence[SampledKit]) -> SampledKit:
        return kits[int(self._rng.integers(len(kits)))]

    def _synthesis(self, electronic: bool = False) -> SynthesisedDrums:
        return SynthesisedDrums(self._rng, self._split, electronic=electronic)

    def _one_shots(self, family: tuple[str, ...], *, acoustic: bool = False) -> SampledDrums:
        chosen: dict[str, Recording] = {}
        for articulation in family:
            group = self._bank.one_shots.get(articulation, ())
            fit = [recording for recording in group if not acoustic or one_shots.is_acoustic(recording.name)]
            if fit:
                chosen[articulation] = fit[int(self._rng.integers(len(fit)))]
        return SampledDrums("one_shots", chosen)

    def _layer(self, sources: dict[tuple[str, ...], list[Source]], share: float) -> None:
        """Add a second drum beneath some bass and snare drums, as producers do."""
        for family in FAMILIES[:2]:
            if self._rng.random() < share:
                second = self._pick(self._sampled_kits).drawn(self._rng)
                sources[family].append(second if self._rng.random() < 0.5 else self._synthesis())

    def _assemble(
        self, name: str, sources: Mapping[tuple[str, ...], Sequence[Source]], rest: Source, *, own: bool = False
    ) -> ShapedKit:
        """Return the kit.

        Args:
            name: of the kit.
            sources: of each family; only the first one of them need play an articulation for it to be taken.
            rest: plays what they do not.
            own: the drums keep the balance that they have in their common source.
        """
        parts: dict[str, Part] = {}
        for family in FAMILIES:
            tune = math.exp(self._rng.uniform(math.log(0.75), math.log(1.35)) * self._depth)
            label = LABEL_OF[family[0]]
            shape = draw_shape(self._rng, _TONE_HZ.get(label, _BRIGHT_HZ), depth=self._depth, tune=tune)
            offset_db = self._rng.normal(0, self._loose_db)
            first = sources[family][0]
            for articulation in family:
                layers = self._sources_of(articulation, sources[family], rest)
                # parts of one drum are tuned and damped together; only the first source is the drum itself
                shapes = [shape if source is first else self._other_shape(shape) for source, _, _ in layers]
                if articulation == "hihat_half" and layers[0][1] == "hihat_open":
                    shapes[0] = replace(shapes[0], damping_s=float(self._rng.uniform(0.05, 0.2)))
                if articulation == "hihat_pedal" and layers[0][1] == "hihat_closed":
                    shapes[0] = replace(
                        shapes[0], softness_db=0.0, attack_db=-6.0, sections=(*shapes[0].sections, _PEDAL)
                    )
                level_db = _FULL_STROKE_DB + offset_db + self._balance_db(articulation, layers[0], family, own)
                parts[articulation] = Part(tuple(layers), tuple(shapes), level_db, self._dynamics)
        return ShapedKit(name, parts)

    def _other_shape(self, shape: Shape) -> Shape:
        return replace(shape, tune=math.exp(self._rng.normal(0, 0.12) * self._depth), drive=0.0)

    def _sources_of(
        self, articulation: str, sources: Sequence[Source], rest: Source
    ) -> list[tuple[Source, str, float]]:
        """Return what plays an articulation: the drums themselves, the next best of theirs, or the rest."""
        first = sources[0]
        found = [(source, articulation, 0.0) for source in sources if articulation in source.articulations]
        if found:
            lead, *below = found
            return [lead, *((source, name, float(self._rng.uniform(-14, -2))) for source, name, _ in below)]
        if articulation == "snare_rim" and {"snare", "side_stick"} <= first.articulations:
            return [(first, "snare", 0.0), (first, "side_stick", float(self._rng.uniform(-6, 3)))]
        if articulation == "hihat_half" and "hihat_open" in first.articulations:
            return [(first, "hihat_open", 0.0)]
        if articulation == "hihat_pedal" and "hihat_closed" in first.articulations and self._rng.random() < 0.5:
            return [(first, "hihat_closed", 0.0)]
        return [(rest, articulation, 0.0)]

    def _balance_db(self, articulation: str, lead: Layered, family: tuple[str, ...], own: bool) -> float:
        """Return how loud an articulation is beside the snare drum."""
        source, played, _ = lead
        usual_db = _BALANCE_DB[articulation]
        anchor = "snare" if own else family[0]
        comparable = own or family == HIHATS
        if not comparable or played != articulation or anchor not in source.articulations:
            return usual_db
        own_db = source.level_db(articulation, 1.0) - source.level_db(anchor, 1.0) + _BALANCE_DB[anchor]
        return min(max(own_db, usual_db - _MOST_OFF_DB), usual_db + _MOST_OFF_DB)
