"""The vessels: their shapes, materials and parts, in heights of the vessel without lid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from training.images.drawings.palettes import Style, grey, kraft, steel, tinted, white
from training.images.drawings.solids import Solid, solid


@dataclass(frozen=True, slots=True)
class Material:
    """What a surface is of: colour (3,), opacity (1: opaque), gloss and metallic sheen, 0 to 1."""

    colour: np.ndarray
    opacity: float = 1.0
    gloss: float = 0.2
    metal: float = 0.0


@dataclass(frozen=True, slots=True)
class Print:
    """Something on a surface: `kind` is one of painting's prints; from `low` to `high`, around `azimuth` in radians."""

    kind: str
    colour: np.ndarray
    low: float
    high: float
    azimuth: float = 0.0
    count: int = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A solid of another material on the vessel: a sleeve, a lid, a cap, a band."""

    shape: Solid
    material: Material
    prints: tuple[Print, ...] = ()


@dataclass(frozen=True, slots=True)
class Handle:
    """A handle between two heights, `reach` wide, `thickness` thick, at `azimuth` (0: to the right, > 0: nearer)."""

    low: float
    high: float
    reach: float
    thickness: float
    azimuth: float
    colour: np.ndarray


@dataclass(frozen=True, slots=True)
class Straw:
    """A straw: leans to the right by `lean`, ends at `height`; `bend`: length of its bent end."""

    colour: np.ndarray
    width: float
    lean: float
    height: float
    bend: float
    stripes: bool


class Closure(StrEnum):
    """What is on top."""

    OPEN = "open"
    CLEAR = "clear lid"
    OPAQUE = "opaque lid"


@dataclass(frozen=True, slots=True)
class Vessel:
    """A drinking vessel.

    Attributes:
        kind: name of its maker.
        reusable: its class.
        outer: its outside.
        wall: thickness.
        floor: height of the inner floor.
        material, inside: of the outside and the inside.
        closure: whether one can see in from above.
        pieces: sleeve, lid and the like, from below up.
        prints: on the outside.
        handle, straw: where it has one.
        rim: colour of the rim.
    """

    kind: str
    reusable: bool
    outer: Solid
    wall: float
    floor: float
    material: Material
    inside: Material
    rim: np.ndarray
    closure: Closure = Closure.OPEN
    pieces: tuple[Piece, ...] = ()
    prints: tuple[Print, ...] = ()
    handle: Handle | None = None
    straw: Straw | None = None

    @property
    def see_through(self) -> bool:
        """Whether the contents are seen from the side."""
        return self.material.opacity < 0.6

    @property
    def top(self) -> float:
        """Height of the highest part of it, the straw left out."""
        return max([self.outer.top, *(piece.shape.top for piece in self.pieces)])


def _paper(rng: np.random.Generator, style: Style) -> np.ndarray:
    return [white, kraft, lambda rng: tinted(rng, style), lambda rng: grey(rng, 0.03, 0.2)][
        rng.choice(4, p=[0.5, 0.2, 0.2, 0.1])
    ](rng)


def _prints(rng: np.random.Generator, style: Style, low: float, high: float, share: float) -> tuple[Print, ...]:
    if rng.random() > share:
        return ()
    kinds = ["disc", "text", "band", "leaf", "dots"]
    middle, half = rng.uniform(low + 0.25 * (high - low), high - 0.3 * (high - low)), rng.uniform(0.09, 0.2)
    colour = tinted(rng, style) if rng.random() < 0.6 else grey(rng, 0.05, 0.95)
    azimuth = float(rng.uniform(-0.7, 0.7))
    kind = str(rng.choice(kinds, p=[0.3, 0.25, 0.2, 0.15, 0.1]))
    first = Print(kind, colour, middle - half, middle + half, azimuth, int(rng.integers(4, 9)))
    if kind == "disc" and rng.random() < 0.6:
        return first, Print("text", grey(rng, 0.05, 0.95), middle - half / 2, middle + half / 2, azimuth, 5)
    return (first,)


def _straw(rng: np.random.Generator, style: Style, *, top: float, reusable: bool) -> Straw:
    colour = (
        steel(rng) if reusable and rng.random() < 0.5 else (tinted(rng, style) if rng.random() < 0.6 else white(rng))
    )
    return Straw(
        colour=colour,
        width=float(rng.uniform(0.03, 0.075)),
        lean=float(rng.uniform(-0.2, 0.2)),
        height=top + float(rng.uniform(0.15, 0.5)),
        bend=float(rng.choice([0.0, 0.0, 0.15])),
        stripes=bool(not reusable and rng.random() < 0.3),
    )


def _cup_shape(rng: np.random.Generator, *, squat: float = 0.0) -> Solid:
    top = rng.uniform(0.33, 0.43) + squat
    return solid([(0.0, top * rng.uniform(0.66, 0.8)), (1.0, top)])


def _traveller_lid(rng: np.random.Generator, shape: Solid) -> Piece:
    rim = shape.radius(1.0)
    rise, inset = rng.uniform(0.05, 0.12), rng.uniform(0.8, 0.9)
    profile = solid([(0.97, rim + 0.025), (1.01, rim + 0.025), (1.015, rim * 0.98), (1.0 + rise, rim * inset)], num=24)
    colour = white(rng) if rng.random() < 0.55 else grey(rng, 0.03, 0.15)
    sip = Print("sip", grey(rng, 0.0, 0.08), 0.0, 2.0, float(rng.uniform(-np.pi, np.pi)))
    return Piece(profile, Material(colour, gloss=0.35), (sip,))


def paper_cup(rng: np.random.Generator, style: Style) -> Vessel:
    """A paper cup to take away: often a sleeve, often a plastic lid."""
    shape = _cup_shape(rng, squat=float(rng.choice([0.0, 0.08])))
    colour = _paper(rng, style)
    pieces: list[Piece] = []
    if rng.random() < 0.4:
        low, high = rng.uniform(0.2, 0.35), rng.uniform(0.6, 0.8)
        paper = kraft(rng) if rng.random() < 0.65 else tinted(rng, style)
        ribs = (Print("ribs", paper * 0.8, low, high, 0.0, 40),) if rng.random() < 0.5 else ()
        sleeve = shape.between(low, high, widened=0.015)
        pieces.append(Piece(sleeve, Material(paper, gloss=0.05), ribs + _prints(rng, style, low, high, 0.5)))
    lid = rng.random() < 0.5
    if lid:
        pieces.append(_traveller_lid(rng, shape))
    return Vessel(
        kind="paper_cup",
        reusable=False,
        outer=shape,
        wall=0.012,
        floor=0.06,
        material=Material(colour, gloss=0.12),
        inside=Material(white(rng), gloss=0.1),
        rim=white(rng) * np.float32(0.97),
        closure=Closure.OPAQUE if lid else Closure.OPEN,
        pieces=tuple(pieces),
        prints=_prints(rng, style, 0.0, 1.0, 0.7),
        straw=_straw(rng, style, top=1.1, reusable=False) if rng.random() < 0.08 else None,
    )


def ripple_cup(rng: np.random.Generator, style: Style) -> Vessel:
    """A cup of corrugated paper."""
    shape = _cup_shape(rng)
    paper = kraft(rng) if rng.random() < 0.5 else tinted(rng, style)
    ribs = Print("ribs", paper * 0.72, 0.05, 0.93, 0.0, int(rng.integers(28, 50)))
    lid = rng.random() < 0.5
    return Vessel(
        kind="ripple_cup",
        reusable=False,
        outer=shape,
        wall=0.02,
        floor=0.06,
        material=Material(paper, gloss=0.05),
        inside=Material(white(rng), gloss=0.1),
        rim=white(rng) * np.float32(0.97),
        closure=Closure.OPAQUE if lid else Closure.OPEN,
        pieces=(_traveller_lid(rng, shape),) if lid else (),
        prints=(ribs, *_prints(rng, style, 0.1, 0.9, 0.5)),
    )


def plastic_cup(rng: np.random.Generator, style: Style) -> Vessel:
    """A clear plastic cup: open, under a dome or under a flat lid, mostly with a straw."""
    shape = _cup_shape(rng)
    rim = shape.radius(1.0)
    clear = Material(np.array([0.93, 0.95, 0.96], np.float32), opacity=float(rng.uniform(0.1, 0.25)), gloss=0.7)
    top = str(rng.choice(["open", "dome", "flat"], p=[0.35, 0.4, 0.25]))
    pieces: tuple[Piece, ...] = ()
    if top == "dome":
        angles = np.linspace(0.05, 1.4, 14)
        dome = [(0.99, rim + 0.02), *((1.0 + 0.8 * rim * np.sin(a), rim * np.cos(a) + 0.01) for a in angles)]
        pieces = (Piece(solid(dome, num=40), clear),)
    elif top == "flat":
        pieces = (Piece(solid([(0.985, rim + 0.02), (1.03, rim + 0.02), (1.04, rim * 0.95)], num=14), clear),)
    straw = rng.random() < (0.3 if top == "open" else 0.75)
    return Vessel(
        kind="plastic_cup",
        reusable=False,
        outer=shape,
        wall=0.01,
        floor=0.03,
        material=clear,
        inside=clear,
        rim=np.array([0.95, 0.96, 0.97], np.float32),
        closure=Closure.OPEN if top == "open" else Closure.CLEAR,
        pieces=pieces,
        prints=_prints(rng, style, 0.1, 0.9, 0.5),
        straw=_straw(rng, style, top=1.2, reusable=False) if straw else None,
    )


def film_cup(rng: np.random.Generator, style: Style) -> Vessel:
    """A cup of bubble tea, closed with a printed film, a thick straw through it."""
    shape = _cup_shape(rng)
    rim = shape.radius(1.0)
    film = Piece(solid([(0.99, rim + 0.015), (1.01, rim + 0.015)], num=6), Material(tinted(rng, style), gloss=0.5))
    cloudy = Material(np.array([0.93, 0.95, 0.96], np.float32), opacity=float(rng.uniform(0.2, 0.4)), gloss=0.5)
    straw = replace(_straw(rng, style, top=1.1, reusable=False), width=float(rng.uniform(0.08, 0.12)), stripes=False)
    return Vessel(
        kind="film_cup",
        reusable=False,
        outer=shape,
        wall=0.012,
        floor=0.03,
        material=cloudy,
        inside=cloudy,
        rim=np.array([0.95, 0.96, 0.97], np.float32),
        closure=Closure.OPAQUE,
        pieces=(film,),
        prints=_prints(rng, style, 0.1, 0.9, 0.7),
        straw=straw if rng.random() < 0.85 else None,
    )


def mug(rng: np.random.Generator, style: Style) -> Vessel:
    """A ceramic mug with a handle: straight, bellied or conical."""
    radius = rng.uniform(0.4, 0.54)
    foot, middle = radius * rng.uniform(0.72, 1.0), radius * rng.uniform(0.97, 1.08)
    shape = solid([(0.0, foot * 0.93), (0.04, foot), (0.45, middle), (1.0, radius)], smooth=rng.random() < 0.6)
    colour = [white, lambda rng: tinted(rng, style), lambda rng: tinted(rng, style, vivid=False), grey][
        rng.choice(4, p=[0.35, 0.35, 0.15, 0.15])
    ](rng)
    handle = Handle(
        low=float(rng.uniform(0.15, 0.3)),
        high=float(rng.uniform(0.7, 0.88)),
        reach=float(rng.uniform(0.2, 0.34)),
        thickness=float(rng.uniform(0.07, 0.12)),
        azimuth=_handle_azimuth(rng),
        colour=colour,
    )
    return Vessel(
        kind="mug",
        reusable=True,
        outer=shape,
        wall=float(rng.uniform(0.03, 0.055)),
        floor=0.08,
        material=Material(colour, gloss=float(rng.uniform(0.3, 0.8))),
        inside=Material(white(rng) if rng.random() < 0.7 else colour, gloss=0.4),
        rim=colour,
        prints=_prints(rng, style, 0.0, 1.0, 0.5),
        handle=handle,
    )


def tea_cup(rng: np.random.Generator, style: Style) -> Vessel:
    """A wide cup on its saucer, with a small handle."""
    radius = rng.uniform(0.6, 0.8)
    shape = solid(
        [(0.0, radius * 0.45), (0.06, radius * 0.5), (0.35, radius * 0.82), (0.7, radius * 0.95), (1.0, radius)],
        smooth=True,
    )
    colour = white(rng) if rng.random() < 0.5 else tinted(rng, style, vivid=bool(rng.random() < 0.6))
    wide = radius * rng.uniform(1.5, 1.8)
    saucer = Piece(
        solid([(-0.06, wide * 0.55), (-0.02, wide * 0.9), (0.02, wide)], num=16), Material(colour, gloss=0.5)
    )
    handle = Handle(
        0.3, 0.85, float(rng.uniform(0.25, 0.4)), float(rng.uniform(0.07, 0.1)), _handle_azimuth(rng), colour
    )
    return Vessel(
        kind="tea_cup",
        reusable=True,
        outer=shape,
        wall=0.03,
        floor=0.1,
        material=Material(colour, gloss=0.6),
        inside=Material(white(rng), gloss=0.5),
        rim=colour,
        pieces=(saucer,) if rng.random() < 0.75 else (),
        prints=_prints(rng, style, 0.2, 1.0, 0.25),
        handle=handle,
    )


def enamel_mug(rng: np.random.Generator, style: Style) -> Vessel:
    """A mug of enamelled steel: straight, thin, a dark rim, a thin handle."""
    radius = rng.uniform(0.46, 0.56)
    colour = white(rng) if rng.random() < 0.4 else tinted(rng, style)
    handle = Handle(0.22, 0.86, float(rng.uniform(0.2, 0.3)), 0.045, _handle_azimuth(rng), colour * np.float32(0.9))
    return Vessel(
        kind="enamel_mug",
        reusable=True,
        outer=solid([(0.0, radius), (1.0, radius)]),
        wall=0.015,
        floor=0.04,
        material=Material(colour, gloss=0.7),
        inside=Material(white(rng), gloss=0.6),
        rim=grey(rng, 0.03, 0.15),
        prints=_prints(rng, style, 0.1, 0.9, 0.3),
        handle=handle,
    )


def glass(rng: np.random.Generator, style: Style) -> Vessel:
    """A drinking glass: low or tall, straight or conical, a thick floor."""
    radius = rng.uniform(0.28, 0.5)
    foot = radius * rng.uniform(0.75, 1.0)
    clear = Material(np.array([0.86, 0.91, 0.92], np.float32), opacity=float(rng.uniform(0.1, 0.22)), gloss=1.0)
    facets = Print("facets", np.ones(3, np.float32), 0.1, rng.uniform(0.4, 0.8), 0.0, int(rng.integers(8, 18)))
    handle = None
    if rng.random() < 0.2:
        handle = Handle(0.2, 0.8, 0.25, 0.08, _handle_azimuth(rng), np.array([0.85, 0.9, 0.92], np.float32))
    return Vessel(
        kind="glass",
        reusable=True,
        outer=solid([(0.0, foot), (1.0, radius)]),
        wall=float(rng.uniform(0.02, 0.04)),
        floor=float(rng.uniform(0.07, 0.14)),
        material=clear,
        inside=clear,
        rim=np.array([0.97, 0.98, 0.99], np.float32),
        prints=(facets,) if rng.random() < 0.3 else (),
        handle=handle,
        straw=_straw(rng, style, top=1.0, reusable=True) if rng.random() < 0.12 else None,
    )


def wine_glass(rng: np.random.Generator, style: Style) -> Vessel:
    """A goblet on a stem."""
    bowl = rng.uniform(0.3, 0.42)
    stem = Piece(
        solid([(-0.62, bowl * 0.85), (-0.6, bowl * 0.8), (-0.57, 0.04), (0.0, 0.035)], num=40),
        Material(np.array([0.86, 0.91, 0.92], np.float32), opacity=0.35, gloss=1.0),
    )
    clear = Material(np.array([0.86, 0.91, 0.92], np.float32), opacity=float(rng.uniform(0.1, 0.2)), gloss=1.0)
    return Vessel(
        kind="wine_glass",
        reusable=True,
        outer=solid([(0.0, 0.05), (0.08, bowl * 0.6), (0.4, bowl), (1.0, bowl * rng.uniform(0.75, 0.95))], smooth=True),
        wall=0.015,
        floor=0.04,
        material=clear,
        inside=clear,
        rim=np.array([0.97, 0.98, 0.99], np.float32),
        pieces=(stem,),
    )


def tumbler(rng: np.random.Generator, style: Style) -> Vessel:
    """A thermos mug of steel: painted or bare, open or under a thick lid, at times with a straw or a handle."""
    top = rng.uniform(0.27, 0.4)
    foot = top * rng.uniform(0.7, 0.85)
    step = rng.random() < 0.4
    middle = [(0.42, foot * 1.02), (0.5, top * 0.97)] if step else []
    shape = solid([(0.0, foot), *middle, (1.0, top)], smooth=True)
    bare = rng.random() < 0.35
    colour = steel(rng) if bare else (tinted(rng, style) if rng.random() < 0.75 else grey(rng))
    material = Material(
        colour, gloss=float(rng.uniform(0.25, 0.7)), metal=float(rng.uniform(0.6, 1.0)) if bare else 0.0
    )
    pieces: list[Piece] = []
    if rng.random() < 0.35:
        low = rng.uniform(0.0, 0.05)
        pieces.append(Piece(shape.between(low, low + 0.1, widened=0.01), Material(grey(rng, 0.03, 0.4))))
    lid = rng.random() < 0.6
    if lid:
        dark = grey(rng, 0.03, 0.25) if rng.random() < 0.6 else tinted(rng, style)
        rise = rng.uniform(0.06, 0.16)
        cover = solid(
            [(0.95, top + 0.015), (1.0 + rise * 0.6, top + 0.01), (1.0 + rise, top * 0.8)], num=26, smooth=True
        )
        pieces.append(Piece(cover, Material(dark, gloss=0.3), (Print("sip", grey(rng, 0.0, 0.5), 0.0, 2.0, 0.4),)))
    handled = rng.random() < 0.25
    return Vessel(
        kind="tumbler",
        reusable=True,
        outer=shape,
        wall=0.035,
        floor=0.06,
        material=material,
        inside=Material(steel(rng), gloss=0.6, metal=0.8),
        rim=steel(rng) * np.float32(1.1),
        closure=Closure.OPAQUE if lid else Closure.OPEN,
        pieces=tuple(pieces),
        prints=_prints(rng, style, 0.2, 0.9, 0.35),
        handle=Handle(0.25, 0.85, 0.24, 0.07, _handle_azimuth(rng), grey(rng, 0.03, 0.3)) if handled else None,
        straw=_straw(rng, style, top=1.15, reusable=True) if rng.random() < 0.2 else None,
    )


def bottle(rng: np.random.Generator, style: Style) -> Vessel:
    """A metal bottle with a screw cap."""
    radius, neck = rng.uniform(0.17, 0.25), rng.uniform(0.08, 0.13)
    shoulder = rng.uniform(0.68, 0.82)
    shape = solid(
        [(0.0, radius * 0.94), (0.03, radius), (shoulder, radius), (shoulder + 0.14, neck), (1.0, neck)], smooth=True
    )
    bare = rng.random() < 0.35
    colour = steel(rng) if bare else tinted(rng, style)
    cap_colour = steel(rng) if rng.random() < 0.4 else grey(rng, 0.03, 0.3)
    cap = Piece(
        solid([(0.94, neck * 1.2), (1.1, neck * 1.2), (1.12, neck * 1.05)], num=16),
        Material(cap_colour, gloss=0.4, metal=0.5),
        (Print("ribs", cap_colour * np.float32(0.7), 0.94, 1.1, 0.0, 30),),
    )
    return Vessel(
        kind="bottle",
        reusable=True,
        outer=shape,
        wall=0.02,
        floor=0.05,
        material=Material(colour, gloss=0.5, metal=float(rng.uniform(0.6, 1.0)) if bare else 0.1),
        inside=Material(steel(rng), metal=0.8),
        rim=steel(rng),
        closure=Closure.OPAQUE,
        pieces=(cap,),
        prints=_prints(rng, style, 0.1, 0.65, 0.5),
    )


def keep_cup(rng: np.random.Generator, style: Style) -> Vessel:
    """A cup to refill: glass or plastic with a coloured grip band, often under a coloured lid."""
    shape = _cup_shape(rng, squat=0.06)
    rim = shape.radius(1.0)
    glassy = rng.random() < 0.5
    colour = tinted(rng, style)
    material = (
        Material(np.array([0.86, 0.91, 0.92], np.float32), opacity=0.2, gloss=1.0)
        if glassy
        else Material(tinted(rng, style, vivid=False), gloss=0.25)
    )
    band = Piece(shape.between(0.35, rng.uniform(0.6, 0.72), widened=0.02), Material(colour, gloss=0.1))
    lid = rng.random() < 0.6
    cover = Piece(
        solid([(0.94, rim + 0.03), (1.08, rim + 0.03), (1.1, rim * 0.85)], num=20),
        Material(tinted(rng, style), gloss=0.2),
    )
    return Vessel(
        kind="keep_cup",
        reusable=True,
        outer=shape,
        wall=0.03,
        floor=0.06,
        material=material,
        inside=material,
        rim=np.clip(material.colour * np.float32(1.05), 0, 1),
        closure=Closure.OPAQUE if lid else Closure.OPEN,
        pieces=(band, cover) if lid else (band,),
    )


def _handle_azimuth(rng: np.random.Generator) -> float:
    side = rng.choice([0.0, np.pi])
    return float(side + rng.uniform(-0.9, 0.9))


Maker = Callable[[np.random.Generator, Style], Vessel]
# by style and whether it is reusable: makers, and how often each
MAKERS: dict[tuple[Style, bool], tuple[tuple[Maker, float], ...]] = {
    (Style.TRAINED, False): ((paper_cup, 0.58), (plastic_cup, 0.42)),
    (Style.HELD_OUT, False): ((ripple_cup, 0.5), (film_cup, 0.5)),
    (Style.TRAINED, True): ((mug, 0.3), (glass, 0.22), (tumbler, 0.25), (bottle, 0.13), (tea_cup, 0.1)),
    (Style.HELD_OUT, True): ((enamel_mug, 0.35), (keep_cup, 0.4), (wine_glass, 0.25)),
}


def make_vessel(rng: np.random.Generator, style: Style, *, reusable: bool) -> Vessel:
    """Return a vessel of the style and the class."""
    makers, shares = zip(*MAKERS[style, reusable], strict=True)
    return makers[rng.choice(len(makers), p=shares)](rng, style)
