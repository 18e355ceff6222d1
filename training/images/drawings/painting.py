"""A vessel with what is in it, painted as seen from somewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from training.images.drawings.canvas import Canvas
from training.images.drawings.drinks import Drink
from training.images.drawings.prints import printed
from training.images.drawings.solids import Seen, Solid, View, see, see_inside
from training.images.drawings.vessels import Closure, Handle, Material, Piece, Straw, Vessel

_MARGIN = 0.06
_WHITE = np.ones(3, np.float32)


@dataclass(frozen=True, slots=True)
class Light:
    """Light: from the `side` (-1: left, 1: right), `ambient` share of it, `phase` of what metal mirrors."""

    side: float
    ambient: float
    phase: float


@dataclass(frozen=True, slots=True)
class Painted:
    """A vessel by itself.

    Attributes:
        image: RGBA, cropped to the vessel.
        foot_px: column and row of the foot's middle.
        foot_radius_px: of the foot.
        drink_share: of the vessel's pixels that show the drink.
        floor_share: of the vessel's pixels that show the empty floor.
        depth_seen: share of the inner depth that is seen, 0 to 1.
    """

    image: Image.Image
    foot_px: tuple[float, float]
    foot_radius_px: float
    drink_share: float
    floor_share: float
    depth_seen: float


def paint(
    vessel: Vessel,
    drink: Drink | None,
    *,
    elevation: float,
    height_px: float,
    light: Light,
    rng: np.random.Generator,
    residue: float = 0.0,
) -> Painted:
    """Return a vessel seen from `elevation` (radians), about `height_px` high, empty where there is no drink.

    Args:
        vessel: what to paint.
        drink: what is in it.
        elevation: of the viewer above the horizon.
        height_px: of the picture of the vessel.
        light: on it.
        rng: of the small things: bubbles, cubes of ice, milk.
        residue: opacity of what an empty vessel's floor is stained with.
    """
    view = _view(vessel, elevation, height_px, float(rng.uniform(0.0, 0.25)))
    canvas = Canvas(view.height_px, view.width_px)
    if vessel.handle is not None and np.sin(vessel.handle.azimuth) < 0.0:
        _handle(canvas, vessel, vessel.handle, view)
    below = [piece for piece in vessel.pieces if piece.shape.heights[0] < 0.0]
    for piece in below:
        _piece(canvas, piece, view, light)
    hollow = _hollow(vessel)
    if vessel.see_through:
        shares = _clear(canvas, vessel, hollow, drink, view, light, rng, residue)
    else:
        shares = _solid(canvas, vessel, hollow, drink, view, light, rng, residue)
    under = [piece for piece in vessel.pieces if piece not in below and piece.shape.heights[0] < 0.9]
    above = [piece for piece in vessel.pieces if piece not in below and piece.shape.heights[0] >= 0.9]
    for piece in under:
        _band(canvas, piece, see(vessel.outer, view), view, light)
    if vessel.straw is not None and not (above and above[-1].material.opacity == 1.0):
        _straw(canvas, vessel, vessel.straw, view, low=0.7 if vessel.closure is Closure.CLEAR else 0.9)
    for piece in above:
        _piece(canvas, piece, view, light)
    if vessel.straw is not None and above:
        _straw(canvas, vessel, vessel.straw, view, low=vessel.top - 0.01)
    if vessel.handle is not None and np.sin(vessel.handle.azimuth) >= 0.0:
        _handle(canvas, vessel, vessel.handle, view)
    covered = float((canvas.pixels[..., 3] > 0.05).sum()) + 1.0
    foot = view.place(0.0, 0.0, min([0.0, *(float(piece.shape.heights[0]) for piece in below)]))
    widest = max([vessel.outer.radius(0.0), *(float(piece.shape.radii.max()) for piece in below)])
    return Painted(
        image=canvas.image(),
        foot_px=foot,
        foot_radius_px=widest * view.scale_px,
        drink_share=shares[0] / covered,
        floor_share=shares[1] / covered,
        depth_seen=shares[2],
    )


def _view(vessel: Vessel, elevation: float, height_px: float, taper: float) -> View:
    sine, cosine = np.sin(elevation), np.cos(elevation)
    low = min([0.0, *(float(piece.shape.heights[0]) for piece in vessel.pieces)])
    high = max(vessel.top, vessel.straw.height + 0.05 if vessel.straw else 0.0)
    shapes = [vessel.outer, *(piece.shape for piece in vessel.pieces)]
    widest = max(float(shape.radii.max()) for shape in shapes) * (1.0 + taper)
    reach = widest + (vessel.handle.reach + vessel.handle.thickness if vessel.handle else 0.0)
    reach = max(reach, widest + 0.25 if vessel.straw else 0.0)
    deep = reach if vessel.handle else widest
    extent = (high - low) * cosine + 2.0 * deep * sine + 2.0 * _MARGIN
    scale = height_px / max(extent, 2.0 * reach * 0.85)
    return View(
        elevation=elevation,
        taper=taper,
        scale_px=scale,
        x0_px=(reach + _MARGIN) * scale,
        y0_px=(high * cosine + deep * sine + _MARGIN) * scale,
        width_px=int(2 * (reach + _MARGIN) * scale) + 1,
        height_px=int(extent * scale) + 1,
    )


def _hollow(vessel: Vessel) -> Solid:
    shape = vessel.outer
    heights = np.linspace(vessel.floor, shape.top, 70)
    return Solid(heights, np.maximum(np.interp(heights, shape.heights, shape.radii) - vessel.wall, 0.01))


def _solid(
    canvas: Canvas,
    vessel: Vessel,
    hollow: Solid,
    drink: Drink | None,
    view: View,
    light: Light,
    rng: np.random.Generator,
    residue: float,
) -> tuple[float, float, float]:
    seen = see(vessel.outer, view)
    colour = _lit(seen, vessel.material, light)
    for each in vessel.prints:
        colour = printed(colour, seen, each)
    canvas.paint(seen.box, seen.mask, colour)
    if vessel.closure is Closure.OPAQUE:
        return 0.0, 0.0, 0.0
    canvas.paint(seen.box, seen.mask & seen.top, vessel.rim * np.float32(1.05))
    level = vessel.floor + drink.level * (hollow.top - vessel.floor) if drink else vessel.floor
    inner = see_inside(hollow, view, level)
    wall = _lit(inner, vessel.inside, light, inside=True)
    deep = (hollow.top - inner.heights) / max(hollow.top - vessel.floor, 1e-3)
    canvas.paint(inner.box, inner.mask, wall * (1.0 - 0.45 * deep[..., None]))
    face = inner.mask & inner.top
    if drink is not None:
        _surface(canvas, inner, face, drink, light, rng)
        return float(face.sum()), 0.0, 1.0
    # the floor's corner is dark, and the wall's shadow lies on the floor
    corner = face * (0.15 + 0.3 * np.clip(-light.side * inner.sides, 0.0, 1.0) + 0.25 * np.abs(inner.sides) ** 4)
    canvas.paint(inner.box, corner, vessel.inside.colour * np.float32(0.3))
    if residue:
        _residue(canvas, inner, face, rng, residue)
    lowest = float(inner.heights[inner.mask].min()) if inner.mask.any() else hollow.top
    return 0.0, float(face.sum()), (hollow.top - lowest) / (hollow.top - vessel.floor)


def _clear(
    canvas: Canvas,
    vessel: Vessel,
    hollow: Solid,
    drink: Drink | None,
    view: View,
    light: Light,
    rng: np.random.Generator,
    residue: float,
) -> tuple[float, float, float]:
    outer = see(vessel.outer, view)
    glass = vessel.material
    canvas.paint(outer.box, outer.mask * np.float32(glass.opacity * 0.7), glass.colour)
    # the floor is thicker than the walls
    floor = see(vessel.outer.between(0.0, max(vessel.floor, 0.02), num=12), view)
    canvas.paint(floor.box, floor.mask * np.float32(0.25), glass.colour * np.float32(0.75))
    drunk = 0.0
    if drink is not None:
        level = vessel.floor + drink.level * (hollow.top - vessel.floor)
        body = see(Solid(*_cut(hollow, level)), view)
        shade = (0.75 + 0.25 * body.facing)[..., None] * drink.colour
        if drink.name in {"latte", "matcha latte"} and drink.ice:
            shade += 0.15 * ((body.heights / level) ** 2 - 0.5)[..., None]
        opacity = body.mask * (drink.opacity * (0.85 + 0.15 * np.abs(body.facing)))
        canvas.paint(body.box, opacity, shade)
        face = body.mask & body.top
        _surface(canvas, body, face, drink, light, rng)
        drunk = float(body.mask.sum())
    elif residue:
        _residue(canvas, floor, floor.mask & floor.top, rng, residue)
    if vessel.straw is not None:
        hidden = drink.opacity * 0.9 if drink else 0.1
        _straw_below(canvas, vessel.straw, vessel.floor, view, 1.0 - hidden)
    # seen edge-on, the wall is longer to look through
    edge = np.abs(outer.sides) ** 6
    front = outer.mask * np.float32(1.0) * (glass.opacity * 0.5 + 0.4 * edge) * ~outer.top
    canvas.paint(outer.box, front, glass.colour * (0.75 + 0.25 * (1.0 - edge))[..., None])
    outline = outer.mask * ~outer.top * np.float32(0.4) * (np.abs(outer.sides) > 0.965)
    canvas.paint(outer.box, outline, glass.colour * np.float32(0.35))
    for each in vessel.prints:
        before = np.full((*outer.mask.shape, 3), -1.0, np.float32)
        after = printed(before, outer, each)
        share = np.float32(0.2 if each.kind == "facets" else 0.92)
        canvas.paint(outer.box, ((after[..., 0] >= 0.0) & outer.mask & (outer.facing > 0.0)) * share, after)
    shine = np.exp(-(((outer.sides - light.side * 0.7) / 0.07) ** 2)) + 0.5 * np.exp(
        -(((outer.sides + light.side * 0.8) / 0.04) ** 2)
    )
    canvas.paint(outer.box, outer.mask * ~outer.top * shine * glass.gloss * 0.55 * (outer.facing > 0.0), _WHITE)
    _rim(canvas, vessel, view)
    return drunk, 0.0, 1.0


def _cut(hollow: Solid, level: float) -> tuple[np.ndarray, np.ndarray]:
    heights = np.linspace(hollow.heights[0], max(level, hollow.heights[0] + 0.01), 60)
    return heights, np.interp(heights, hollow.heights, hollow.radii)


def _rim(canvas: Canvas, vessel: Vessel, view: View) -> None:
    angles = np.linspace(0.0, 2.0 * np.pi, 49)
    radius = vessel.outer.radius(vessel.outer.top)
    points = [view.place(radius * np.cos(a), radius * np.sin(a), vessel.outer.top) for a in angles]
    canvas.stroke(points, max(0.014 * view.scale_px, 1.0), vessel.rim, 0.65)


def _surface(
    canvas: Canvas, seen: Seen, face: np.ndarray, drink: Drink, light: Light, rng: np.random.Generator
) -> None:
    """Paint the drink's surface: brighter towards the light, foam, milk, ice, a mirrored light."""
    if not face.any():
        return
    rows, columns = np.nonzero(face)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    across = (np.arange(face.shape[1]) - (left + right) / 2) / max((right - left) / 2, 1)
    along = (np.arange(face.shape[0]) - (top + bottom) / 2) / max((bottom - top) / 2, 1)
    x, y = np.meshgrid(across, along)
    distance = np.sqrt(x**2 + y**2)
    shade = 1.05 + 0.12 * light.side * x - 0.1 * y
    opacity = 0.55 + 0.45 * drink.opacity
    canvas.paint(seen.box, face * np.float32(opacity), drink.colour * shade[..., None])
    # a darker line where it meets the wall
    canvas.paint(seen.box, face * (0.35 * np.clip((distance - 0.9) / 0.1, 0.0, 1.0)), drink.colour * np.float32(0.6))
    if drink.art:
        waves = np.sin(8.0 * distance + 2.0 * np.cos(np.arctan2(y, x) * 2 + light.phase))
        milk = np.float32(0.85) * (waves > 0.2) * (distance < 0.65)
        canvas.paint(seen.box, face * milk, np.array([0.96, 0.9, 0.8], np.float32))
    if drink.foam:
        grain = rng.random(face.shape, dtype=np.float32)
        patches = np.sin(5 * x + light.phase) + np.sin(6 * y - 2 * light.phase) + 2.2 * distance
        cover = face * drink.foam * (0.6 + 0.4 * grain) * (patches > rng.uniform(0.2, 1.2))
        canvas.paint(seen.box, cover, 0.5 * drink.colour + 0.5 * np.array([0.97, 0.93, 0.86], np.float32))
    for _ in range(drink.ice):
        _cube(canvas, seen, face, (left, right, top, bottom), rng)
    where = rng.uniform(-0.5, 0.5, 2)
    glint = np.exp(-((x - where[0]) ** 2 * 20 + (y - where[1]) ** 2 * 40)) * rng.uniform(0.0, 0.55)
    canvas.paint(seen.box, face * glint, _WHITE)


def _cube(
    canvas: Canvas, seen: Seen, face: np.ndarray, extent: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    left, right, top, bottom = extent
    size = (right - left) * rng.uniform(0.12, 0.2)
    angle, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0, np.pi / 2)
    reach = rng.uniform(0.0, 0.6)
    middle = (
        seen.box[1].start + (left + right) / 2 + reach * np.cos(angle) * (right - left) / 2,
        seen.box[0].start + (top + bottom) / 2 + reach * np.sin(angle) * (bottom - top) / 2,
    )
    flat = max((bottom - top) / max(right - left, 1), 0.35)
    corners = [
        (middle[0] + size * np.cos(turn + k * np.pi / 2), middle[1] + size * flat * np.sin(turn + k * np.pi / 2))
        for k in range(4)
    ]
    canvas.fill(corners, np.array([0.88, 0.93, 0.95], np.float32), 0.55)
    canvas.stroke(corners[:3], max(size * 0.08, 1.0), _WHITE, 0.6)
    canvas.stroke([corners[2], corners[3], corners[0]], max(size * 0.06, 1.0), _WHITE * np.float32(0.6), 0.4)


def _residue(canvas: Canvas, seen: Seen, face: np.ndarray, rng: np.random.Generator, opacity: float) -> None:
    grain = np.sin(seen.sides * rng.uniform(3, 9) + rng.uniform(0, 6)) * seen.facing
    spots = face & (grain > rng.uniform(0.3, 0.8))
    canvas.paint(seen.box, spots * np.float32(opacity), np.array([0.35, 0.22, 0.12], np.float32))


def _band(canvas: Canvas, piece: Piece, body: Seen, view: View, light: Light) -> None:
    """Paint what goes round a vessel, but not what of it the vessel's upper part hides."""
    hiding = np.zeros(canvas.pixels.shape[:2], bool)
    hiding[body.box] = body.mask & (body.heights > piece.shape.top)
    seen = see(piece.shape, view)
    colour = _lit(seen, piece.material, light)
    for each in piece.prints:
        colour = printed(colour, seen, each)
    canvas.paint(seen.box, seen.mask & ~seen.top & (seen.facing > 0.0) & ~hiding[seen.box], colour)


def _piece(canvas: Canvas, piece: Piece, view: View, light: Light) -> None:
    seen = see(piece.shape, view)
    colour = _lit(seen, piece.material, light)
    for each in piece.prints:
        colour = printed(colour, seen, each)
    opacity = seen.mask * np.float32(piece.material.opacity)
    if piece.material.opacity < 1.0:
        shine = np.exp(-(((seen.sides - light.side * 0.6) / 0.1) ** 2)) * 0.4 * (seen.facing > 0)
        opacity = np.minimum(opacity + seen.mask * (shine + 0.3 * np.abs(seen.sides) ** 8), 1.0)
    canvas.paint(seen.box, opacity, colour)


def _lit(seen: Seen, material: Material, light: Light, *, inside: bool = False) -> np.ndarray:
    sides = -seen.sides if inside else seen.sides
    facing = -seen.facing if inside else seen.facing
    angle = light.side * 0.9
    lambert = np.clip(sides * np.sin(angle) + facing * np.cos(angle), 0.0, 1.0)
    up = np.clip(seen.slopes, 0.0, 1.0) if not inside else np.zeros_like(seen.slopes)
    up = np.where(seen.top, 1.0, up) if not inside else up
    bright = light.ambient + (1.05 - light.ambient) * np.maximum(lambert, 0.9 * up)
    colour = material.colour * bright[..., None]
    if material.metal:
        stripes = np.sin(7.0 * sides + light.phase) + 0.6 * np.sin(17.0 * sides + 2.3 * light.phase)
        colour = colour * (1.0 + 0.28 * material.metal * stripes * (1.0 - up))[..., None]
    if material.gloss:
        spot = np.exp(-(((sides - np.sin(angle)) / 0.13) ** 2)) * (facing > 0.0) * (1.0 - up)
        colour = colour + (0.4 * material.gloss * spot)[..., None]
    return colour.astype(np.float32)


def _handle(canvas: Canvas, vessel: Vessel, handle: Handle, view: View) -> None:
    angles = np.linspace(-np.pi / 2, np.pi / 2, 22)
    middle, half = (handle.low + handle.high) / 2, (handle.high - handle.low) / 2
    points = []
    for angle in angles:
        height = middle + half * np.sin(angle)
        out = vessel.outer.radius(height) - 0.02 + handle.reach * np.cos(angle) ** 0.7
        points.append(view.place(out * np.cos(handle.azimuth), out * np.sin(handle.azimuth), float(height)))
    width = handle.thickness * view.scale_px
    opacity = 0.6 if vessel.see_through else 1.0
    canvas.stroke(points, width * 1.15, handle.colour * np.float32(0.68), opacity)
    canvas.stroke(points, width * 0.7, handle.colour * np.float32(0.95), opacity)
    canvas.stroke(points, width * 0.2, np.clip(handle.colour * np.float32(1.3), 0, 1), 0.5 * opacity)


def _straw_below(canvas: Canvas, straw: Straw, floor: float, view: View, opacity: float) -> None:
    points = [view.place(-straw.lean * 0.4, 0.0, floor), view.place(straw.lean * 0.3, 0.0, 0.95)]
    canvas.stroke(points, max(straw.width * view.scale_px, 1.5), straw.colour * np.float32(0.8), opacity)


def _straw(canvas: Canvas, vessel: Vessel, straw: Straw, view: View, low: float) -> None:
    start = view.place(straw.lean * 0.3, 0.0, low)
    end = view.place(straw.lean, -0.1, straw.height)
    points = [start, end]
    width = max(straw.width * view.scale_px, 1.5)
    if straw.bend:
        points.append((end[0] + np.copysign(straw.bend * view.scale_px, straw.lean), end[1] - 0.03 * view.scale_px))
    canvas.stroke(points, width, straw.colour * np.float32(0.75))
    canvas.stroke(points, width * 0.55, straw.colour)
    if straw.stripes:
        for share in np.linspace(0.05, 0.95, 9):
            at = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            canvas.stroke([at, (at[0] + width * 0.3, at[1] - width * 0.3)], width * 0.5, np.ones(3, np.float32), 0.8)
