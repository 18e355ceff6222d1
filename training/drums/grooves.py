"""Genres: how their drum parts go, as tables of patterns to choose from (notation: `score.sketch`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# fmt: off
HAT = {"hihat_closed": 1.0}
HAT_OR_RIDE = {"hihat_closed": 0.6, "ride": 0.2, "hihat_half": 0.1, "ride_bell": 0.03, "hihat_open": 0.04,
               "crash": 0.03}
LOUD = {"hihat_closed": 0.22, "hihat_half": 0.26, "hihat_open": 0.16, "ride": 0.14, "crash": 0.12, "china": 0.06,
        "ride_bell": 0.04}
RIDE = {"ride": 0.85, "hihat_closed": 0.1, "ride_bell": 0.05}
# fmt: on


@dataclass(frozen=True)
class Genre:
    """A family of drum parts.

    Attributes:
        weight: How often it is drawn.
        bpm: Range of the felt beat's tempo: quarters, or dotted quarters where `steps` of four beats make 12/8 or 6/8.
        lanes: Articulation, or "time" for the timekeeper -> patterns to choose from, each of one or more bars.
        time: Articulation of the timekeeper -> weight.
        beats: Felt beats in a bar (3.5 in 7/8).
        steps: Pattern steps in a beat.
        swing: Range of the swing (0.5 is straight, 0.67 triplets); none where the patterns are played as written.
        machine: Chance that a machine plays it, in time to the sample.
        soft: Range of the loudness of the playing.
        pedal: Chance of a pedalled hi-hat in sections that keep time elsewhere.
        fills: Chance of a fill at the end of a section.
    """

    weight: float
    bpm: tuple[float, float]
    lanes: Mapping[str, tuple[str, ...]]
    time: Mapping[str, float] = field(default_factory=lambda: HAT)
    beats: float = 4
    steps: int = 4
    swing: tuple[float, float] | None = None
    swing_beats: float = 1.0
    machine: float = 0.1
    soft: tuple[float, float] = (0.7, 1.0)
    pedal: float = 0.3
    fills: float = 0.7


# A table: each line is a lane.
# fmt: off
_EIGHTHS = ("X.x.X.x.X.x.X.x.", "x.x.x.x.x.x.x.x.", "x.X.x.X.x.X.x.X.", "X.o.X.o.X.o.X.o.", "X.X.X.X.X.X.X.X.")
_SIXTEENTHS = ("XoxoXoxoXoxoXoxo", "xoxoxoxoxoxoxoxo", "XgogXgogXgogXgog", "xoxoxoxoxoxox.x.")
_QUARTERS = ("x...x...x...x...", "X...X...X...X...")
_BACKBEAT = ("....X.......X...", "....x.......x...", "....X.......X..1", "....X.....1.X..2")
_GHOSTED = ("....X..g.g..X..g", "h.hhXhhghghhXhhg", ".h.hX..g.gh.X.gh", "....X..h.h..X...", "hhhhXhhhhhhhXhhh")
_SWUNG_RIDE = ("X..x.xX..x.x", "x..X.xx..X.x", "x..x.xx..x.x", "x..x..x..x.x", "x..x.xx..x..")

GENRES: dict[str, Genre] = {
    "rock": Genre(10, (85, 165), {
        "time": _EIGHTHS + _QUARTERS,
        "kick": ("X.......X.2...2.", "X..3..4.X.5..1..", "X.....X.X.......", "X......XX.3.....", "X..X..X...X..2..",
                 "X.X.....X.X.....", "x...x...x...x...", "X.....2...X..2..", "X2....3.X3.3..3."),
        "snare": _BACKBEAT + _GHOSTED[3:4],
    }, HAT_OR_RIDE),
    "hard_rock": Genre(5, (90, 180), {
        "time": (*_QUARTERS, *_EIGHTHS[:2], "X...X...X...X..."),
        "kick": ("X.X...X.X.X...4.", "X.....X.X.X.....", "XX..3...XX..3...", "X.X.X.X.X.X.X.X.", "X..X..X..X..X.3."),
        "snare": ("....X.......X...", "....f.......X...", "....X.......X.2."),
    }, LOUD, pedal=0.15, soft=(0.85, 1.0)),
    "pop": Genre(7, (75, 135), {
        "time": _EIGHTHS + _SIXTEENTHS[:2],
        "kick": ("X.......X.......", "X.....4.X.4.....", "X..X....X..3....", "x...x...x...x...", "X......2..X....."),
        "snare": _BACKBEAT,
        "clap": ("", "", "", "....x.......x..."),
        "tambourine": ("", "", "", "", "x.x.x.x.x.x.x.x.", "....x.......x..."),
        "shaker": ("", "", "", "", "xoxoxoxoxoxoxoxo"),
    }, HAT_OR_RIDE, machine=0.3),
    "funk": Genre(8, (80, 125), {
        "time": (*_SIXTEENTHS, *_EIGHTHS[:3], "x.xxx.xxx.xxx.xx", "x.xx.xx.x.xx.xx."),
        "kick": ("X.x......xx..x..", "X..X..X...X..3..", "X.3...3..3X..3..", "X..2...X.3X...2.", "X......X..X..X..",
                 "X5....4..4X4.3.."),
        "snare": _GHOSTED,
        "cowbell": ("", "", "", "", "", "x...x...x...x..."),
    }, {"hihat_closed": 0.85, "ride": 0.1, "hihat_half": 0.05}, swing=(0.5, 0.58), swing_beats=0.5),
    "fusion": Genre(4, (85, 150), {
        "time": (*_SIXTEENTHS, *_EIGHTHS, "x.xxx.x.x.xxx.x.", "x..xx..xx..xx.x."),
        "kick": ("X.4..4.3.4.3X..3", "..4X..3.X.3..X.3", "X..X..X..X..X...", "333333333333333."),
        "snare": ("....X..hgh.hX.hg", "h.hhX.hh.hXh.hhg", "hhXhhhhhhhhhXhhh", "3h.h4h.h3h.h5h.h"),
        "tom_low": ("", "", "..............2."),
    }, {"hihat_closed": 0.45, "ride": 0.4, "ride_bell": 0.15}, pedal=0.7, swing=(0.5, 0.55), swing_beats=0.5),
    "hip_hop": Genre(5, (70, 105), {
        "time": (*_EIGHTHS, *_SIXTEENTHS, "x.x.x.xxx.x.x.x.", "x.xxx.x.x.xxx.x."),
        "kick": ("X..X......X.....", "X.3....3..X..3..", "XX.....X..X.....", "X......X.X......", "X.X....X..X..X.."),
        "snare": (*_BACKBEAT, "....X..g.g..X..."),
        "clap": ("", "", "", "....X.......X..."),
    }, swing=(0.5, 0.64), swing_beats=0.5, machine=0.5),
    "trap": Genre(2, (60, 85), {
        "time": ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "x.x.x.x.xxx.x.x.x.x.xxxxx.x.x.x.",
                 "x.x.x.xxx.x.x.x.x.xxxxx.x.x.xxxx"),
        "kick": ("X.....3.......3.....X.3.......3.", "X...........X...3....X.......3.."),
        "snare": ("........X...............X.......", "................X..............."),
        "clap": ("", "........X...............X......."),
    }, steps=8, machine=1.0),
    "swing": Genre(8, (95, 220), {
        "time": _SWUNG_RIDE,
        "kick": ("............", "g.....g.....", "o..o..o..o..", "............", ".....1...2.1", "1....2..1..2"),
        "snare": ("...h.....h.h", "..hh.h..h..h", "............", "..1h.2..1..h", "...o.....o..", ".h.h.1..h..1"),
        "hihat_pedal": ("...x.....x..", "...x.....x..", "...X.....X..", "x..x..x..x..", ""),
        "tom_low": ("", "", "", "...........1"),
    }, RIDE, steps=3, swing=(0.58, 0.73), pedal=0.0, machine=0.0, soft=(0.35, 0.85), fills=0.5),
    "jazz_waltz": Genre(1.5, (100, 190), {
        "time": ("x..x.xx..", "x..x.xx.x", "x..x..x.x"),
        "kick": ("o........", "x.......2", "g....1..."),
        "snare": ("...h.h..h", ".....o...", ".....h.h."),
        "hihat_pedal": ("...x..x..", "...x.....", "......x.."),
    }, RIDE, beats=3, steps=3, swing=(0.6, 0.72), pedal=0.0, machine=0.0, soft=(0.35, 0.8), fills=0.4),
    "brushes": Genre(4, (60, 190), {
        "snare_brush": ("x..x.ox..x.o", "o..x.oo..x.o", "o..x..o..x..", "x.ox.ox.ox.o", "o..X..o..X.."),
        "kick": ("g.....g.....", "............", "o..o..o..o..", "o.....g....1"),
        "hihat_pedal": ("...x.....x..", "", "...x.....x.."),
        "time": ("", "", "", "x..x.xx..x.x"),
    }, RIDE, steps=3, swing=(0.58, 0.73), pedal=0.0, machine=0.0, soft=(0.3, 0.7), fills=0.3),
    "brush_ballad": Genre(2, (50, 110), {
        "snare_brush": ("o.g.x.g.o.g.x.g.", "ogogxgogogogxgog", "g.g.X.g.g.g.X.g."),
        "kick": ("o.......o.......", "x.....2.o......."),
        "hihat_pedal": ("....x.......x...", ""),
        "time": ("", "", "x...x...x...x..."),
    }, RIDE, pedal=0.0, machine=0.0, soft=(0.3, 0.7), fills=0.3),
    "shuffle": Genre(4, (75, 150), {
        "time": ("x.xx.xx.xx.x", "X.oX.oX.oX.o", "x..x..x..x.."),
        "kick": ("X.....X.....", "X....2X.3...", "x..x..x..x..", "X.3..3X.....", "X.X..XX.X..X"),
        "snare": ("...X.....X..", "..gX.gg.gX.g", "h.hXh.h.hX.h", "...X.....X.2"),
    }, HAT_OR_RIDE, steps=3, swing=(0.62, 0.72)),
    "half_time_shuffle": Genre(2, (70, 120), {
        "time": ("x.xx.xx.xx.x", "X.oX.oX.oX.o"),
        "kick": ("X....2......", "X.3..X.....2", "X.......X..3"),
        "snare": (".g..g.Xg..g.", ".g..g.X..gg.", ".h..h.X..h.."),
    }, steps=3, swing=(0.62, 0.7)),
    "half_time": Genre(3, (100, 180), {
        "time": _EIGHTHS + _QUARTERS,
        "kick": ("X.........2...2.", "X..X......X.....", "X.....X...3...X."),
        "snare": ("........X.......", "........X......2", "........X..h.h.."),
    }, HAT_OR_RIDE),
    "bossa": Genre(2.5, (100, 170), {
        "time": ("x.x.x.x.x.x.x.x.", "xoxoxoxoxoxoxoxo"),
        "kick": ("x.....xxx.....xx", "x.....x.x.....x.", "o...o.x.o...o.x."),
        "side_stick": ("x.....x.....x.......x.....x.....", "x.....x.....x.......x.......x...", ""),
        "snare": ("", "", "....h.....h....."),
        "hihat_pedal": ("", "....x.......x..."),
    }, {"hihat_closed": 0.6, "ride": 0.4}, machine=0.05, soft=(0.4, 0.8), fills=0.3),
    "samba": Genre(2.5, (80, 130), {
        "time": ("xoxxxoxxxoxxxoxx", "x.xxx.xxx.xxx.xx", "xoxoxoxoxoxoxoxo"),
        "kick": ("x..xx..xx..xx..x", "o..xo..xo..xo..x"),
        "snare": ("x.gxg.xgg.xg.xg.", "ggXggXggXggXgXgg", "..x..x.x..x.x..."),
        "hihat_pedal": ("..x...x...x...x.", ""),
        "shaker": ("", "", "xoxoxoxoxoxoxoxo"),
    }, {"hihat_closed": 0.35, "ride": 0.4, "ride_bell": 0.25}, machine=0.05, pedal=0.0, soft=(0.5, 0.9), fills=0.4),
    "latin": Genre(4, (85, 140), {
        "time": ("X.xxX.xxX.xxX.xx", "x.x.xx.xx.x.xx.x", "X.x.xx.x.xx.x.xx", "x...x.x.x...x.x."),
        "kick": ("...x..x....x..x.", "...X..X....X..X.", "X.....X.....X...", "......x.......x."),
        "snare": ("", "....h.......h...", "....2.......3..."),
        "side_stick": ("x..x..x...x.x...", "....x.......x...", "..x.x...x..x..x.", ""),
        "tom_high": ("", "............x.x.", "..............x."),
        "tom_mid": ("", "", "...x..x........."),
        "cowbell": ("", "x...x...x...x...", "x.x.xx.xx.x.xx.x", ""),
        "conga": ("", "", "..x...xx..x...xx"),
        "hihat_pedal": ("", "....x.......x...", "..x...x...x...x."),
    }, {"ride_bell": 0.35, "ride": 0.25, "hihat_closed": 0.4}, machine=0.05, pedal=0.0, soft=(0.5, 0.95)),
    "reggae": Genre(4, (65, 95), {
        "time": ("x.x.x.x.x.x.x.x.", "xox.xox.xox.xox.", "..x...x...x...x.", "x.xoxox.x.xoxox."),
        "kick": ("........X.......", "X...X...X...X...", "X.......X.......", "........X.....2."),
        "snare": ("........X.......", "........X..h....", "", "....X.......X..."),
        "side_stick": ("........x.......", "...x....x..x....", ""),
    }, {"hihat_closed": 0.95, "ride": 0.05}, swing=(0.5, 0.62), swing_beats=0.5),
    "disco": Genre(3, (108, 132), {
        "time": ("x.x.x.x.x.x.x.x.", "xoxoxoxoxoxoxoxo"),
        "kick": ("X...X...X...X...",),
        "snare": ("....X.......X...", "....X..g....X..g"),
        "hihat_open": ("..X...X...X...X.",),
        "clap": ("", "", "....x.......x..."),
        "cowbell": ("", "", "", "x.x.x.x.x.x.x.x."),
    }, machine=0.3),
    "house": Genre(3, (115, 135), {
        "time": ("x.x.x.x.x.x.x.x.", "xoxoxoxoxoxoxoxo", "", "..xo..xo..xo..xo"),
        "kick": ("X...X...X...X...", "X...X...X...X..3"),
        "snare": ("....X.......X...", "", "....x..1.1..x..2"),
        "hihat_open": ("..X...X...X...X.", "..X...X...X...X.", ""),
        "clap": ("", "....X.......X..."),
        "shaker": ("", "", "xoxoxoxoxoxoxoxo"),
    }, machine=1.0, fills=0.3),
    "techno": Genre(4, (120, 150), {
        "time": ("x.x.x.x.x.x.x.x.", "..x...x...x...x.", "xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx", "4444444444444444"),
        "kick": ("X...X...X...X...", "X...X...X...X.4.", "X..X..X.X..X....", "X..3..4..4..X3.."),
        "snare": ("....X.......X...", "", "...4..3...4..3..", "....x..x.x..x..."),
        "hihat_open": ("", "..X...X...X...X."),
        "tom_mid": ("", "", "", "...x..x....x...."),
        "other": ("", "", "", "..4..4....4...4."),
    }, machine=1.0, fills=0.25),
    "electro": Genre(3, (95, 135), {
        "time": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", "x.xxx.x.x.xxx.x.", "x..x..x..x..x.x."),
        "kick": ("X.....X...X.....", "X..X......X..X..", "X.....X.....X.X.", "X..X..X...X....."),
        "snare": ("....X.......X...", "....X..x....X...", "....X.......X.xx"),
        "clap": ("", "", "....x.......x..."),
        "cowbell": ("", "", "", "3.3.3.3.3.3.3.3."),
    }, machine=1.0, fills=0.3),
    "break": Genre(6, (85, 185), {
        "time": ("x.x.x.x.x.x.x.x.", "X.x.X.x.X.x.X.x.", "x.xxx.x.x.x.x.xx"),
        "kick": ("X.X.......XX....", "X.X.......XX....X.X.......X.....", "X..X......X..X..", "X.X...X...X.....",
                 "X.....X..X....X.", "X.......X.X....."),
        "snare": ("....X..g.g..X..g", "....X..x.x..X..x....X..x.x....X.", "....X..x.x..X..x", "....X..g.X..X...",
                  "....X.......X.g.", "....X..h.g....X."),
    }, {"hihat_closed": 0.5, "ride": 0.4, "hihat_half": 0.1}, swing=(0.5, 0.56), swing_beats=0.5),
    "metal": Genre(4, (90, 200), {
        "time": (*_QUARTERS, "x.x.x.x.x.x.x.x.", "X...X...X...X..."),
        "kick": ("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx", "xx.xxx.xxx.xxx.x", "x.x.x.x.x.x.x.x.", "xxxx..xxxx..xx..",
                 "X..X..X..X..X.X."),
        "snare": ("....X.......X...", "........X.......", "..X...X...X...X.", "....X.....X.X..."),
    }, LOUD, pedal=0.05, soft=(0.85, 1.0)),
    "blast": Genre(1.5, (140, 220), {
        "time": ("x.x.x.x.x.x.x.x.", "x...x...x...x..."),
        "kick": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", ".x.x.x.x.x.x.x.x"),
        "snare": ("x.x.x.x.x.x.x.x.", ".x.x.x.x.x.x.x.x", "..x...x...x...x."),
    }, LOUD, pedal=0.0, soft=(0.85, 1.0)),
    "punk": Genre(3, (150, 215), {
        "time": (*_EIGHTHS[:2], *_QUARTERS),
        "kick": ("X.....X.X.......", "X..X....X..X....", "X.......X.X.....", "X...X...X...X...", "X..X..X.X..X..X."),
        "snare": ("....X.......X...", "..X...X...X...X.", "....X.......X.X."),
    }, LOUD, soft=(0.85, 1.0)),
    "train": Genre(3, (90, 125), {
        "snare": ("ggXggXgggXggXgXg", "ogXoogXoogXoogXo", "x.Xxx.Xxx.Xxx.Xx", "ggXgggXgggXgggXg"),
        "kick": ("x...x...x...x...", "X.......X.......", "x.......x......."),
        "hihat_pedal": ("..x...x...x...x.", ""),
        "time": ("", "", "x.x.x.x.x.x.x.x."),
    }, soft=(0.5, 0.9), machine=0.0),
    "train_brushes": Genre(1, (90, 125), {
        "snare_brush": ("ggXggXgggXggXgXg", "ggXgggXgggXgggXg"),
        "kick": ("x...x...x...x...", "x.......x......."),
        "hihat_pedal": ("..x...x...x...x.", ""),
    }, soft=(0.4, 0.8), machine=0.0),
    "country": Genre(3, (80, 140), {
        "time": ("x.x.x.x.x.x.x.x.", "x...x...x...x...", "xoxoxoxoxoxoxoxo"),
        "kick": ("X.......X.......", "X.......X.....3.", "X...x...X...x..."),
        "snare": ("....X.......X...", "....x...h...x..h", ""),
        "side_stick": ("", "", "....x.......x..."),
    }, HAT_OR_RIDE, swing=(0.5, 0.6)),
    "ballad": Genre(4, (48, 85), {
        "time": (*_EIGHTHS, *_SIXTEENTHS[:2], *_QUARTERS),
        "kick": ("X.......X.......", "X......xX.......", "X.....2.X.3....."),
        "snare": ("....X.......X...", "", "....x.......x..."),
        "side_stick": ("", "", "....x.......x..."),
        "shaker": ("", "", "", "", "oxoxoxoxoxoxoxox"),
    }, HAT_OR_RIDE, soft=(0.45, 0.9)),
    "twelve_eight": Genre(4, (45, 80), {
        "time": ("xooxooxooxoo", "x.xx.xx.xx.x", "XxxXxxXxxXxx"),
        "kick": ("X.....X.....", "X....xX.....", "X.2..3X.2..."),
        "snare": ("...X.....X..", "...X....gX.g"),
        "side_stick": ("", "", "", "...x.....x.."),
    }, HAT_OR_RIDE, steps=3),
    "six_eight": Genre(2.5, (45, 100), {
        "time": ("xooxoo", "x..x..", "xxxxxx"),
        "kick": ("X....3", "X.3...", "X....."),
        "snare": ("...X..", "...X.h", "...X.2"),
    }, HAT_OR_RIDE, beats=2, steps=3),
    "afro_six": Genre(1.5, (80, 140), {
        "time": ("x.x.xx.x.x.x", "x.xx.x.xx.x."),
        "kick": ("X.....X.....", "..x..x..x..x", "X..x..X..x.."),
        "snare": ("...h.h...h.h", "...x.....x..", ""),
        "tom_high": ("", "....x.....x."),
        "hihat_pedal": ("x..x..x..x..", "", "...x.....x.."),
    }, {"ride_bell": 0.5, "cowbell": 0.3, "ride": 0.2}, steps=3, pedal=0.0, machine=0.0),
    "waltz": Genre(2, (80, 180), {
        "time": ("x.x.x.x.x.x.", "x...x...x...", "x...o...o..."),
        "kick": ("X...........", "X.......3...", "X.....3....."),
        "snare": ("....x...x...", "........X...", "....X......."),
    }, HAT_OR_RIDE, beats=3),
    "five_four": Genre(1.2, (90, 180), {
        "time": ("x.x.x.x.x.x.x.x.x.x.", "x...x...x...x...x..."),
        "kick": ("X.....X.....X.....3.", "X...........X.......", "X.....X...3...X....."),
        "snare": ("....X...........X...", "......X.........X...", "....X.....X.....X..h"),
    }, HAT_OR_RIDE, beats=5),
    "seven_eight": Genre(1.2, (90, 170), {
        "time": ("x.x.x.x.x.x.x.", "x...x...x.x.x.", "xoxoxoxoxoxoxo"),
        "kick": ("X.......X.....", "X.....3.X...3.", "X..X....X....."),
        "snare": ("....X.......X.", "....X.....X...", "....X..h...X.."),
    }, HAT_OR_RIDE, beats=3.5),
    "marching": Genre(2, (85, 140), {
        "snare": ("XggXggXgXggXggXg", "X.ggX.ggX.ggX.gg", "f.gXg.gXf.gXgXgX", "X.zzX.zzX.zzXzzz", "XoxoXoxoXoXoXoxo",
                  "d...d...d.d.d...", "zzzzX...zzzzX..."),
        "kick": ("X...X...X...X...", "", "X.......X......."),
        "crash": ("", "", "....x.......x..."),
        "hihat_pedal": ("", "", "....x.......x..."),
    }, soft=(0.5, 1.0), machine=0.0, fills=0.3),
    "tom_groove": Genre(3, (80, 150), {
        "tom_low": ("x.xxx.xxx.xxx.xx", "x.x.x.x.x.x.x.x.", "X..x..x.X..x..x.", "x.x...x.x.x...x."),
        "tom_mid": ("", "...x..x....x..x.", "......x.......x."),
        "tom_high": ("", "", "....x.......x..."),
        "kick": ("X...X...X...X...", "X.......X.......", "X..X..X.X..X..X.", ""),
        "snare": ("....X.......X...", "", "............X..."),
        "hihat_pedal": ("", "x...x...x...x..."),
    }, soft=(0.6, 1.0)),
    "two_step": Genre(2, (125, 180), {
        "time": ("..x...x...x...x.", "x.x.x.x.x.x.x.x.", "x.xxx.x.x.x.x.xx"),
        "kick": ("X.........X.....", "X..X......X.....", "X.....3...X....."),
        "snare": ("....X.......X...", "....X..h.h..X..h"),
        "shaker": ("", "", "xoxoxoxoxoxoxoxo"),
    }, machine=0.7, swing=(0.5, 0.6), swing_beats=0.5),
    "soul": Genre(3, (85, 140), {
        "time": (*_EIGHTHS[:3], "xxxx.xxxxxxx.xxx", *_QUARTERS[:1]),
        "kick": ("X.....X.X.......", "X..X..X.X..X....", "X...X...X...X...", "X.X...X...X....."),
        "snare": ("x...x...x...x...", "....X.......X...", "....X..g.g..X...", "x.x.x.x.x.x.x.x."),
        "tambourine": ("", "", "x.x.x.x.x.x.x.x.", "....x.......x..."),
    }, HAT_OR_RIDE, soft=(0.6, 0.95)),
    "gospel": Genre(2, (60, 150), {
        "time": ("x.xx.xx.xx.x", "xooxooxooxoo", "x..x..x..x.."),
        "kick": ("X....XX.....", "x..x..x..x..", "X.2..3X.2..3"),
        "snare": ("...X.....X..", "..gX.g.ggX.g", "...X....2X.3"),
        "tambourine": ("", "x.xX.xx.xX.x", "...x.....x.."),
        "clap": ("", "", "...x.....x.."),
    }, HAT_OR_RIDE, steps=3, swing=(0.6, 0.7)),
    "rockabilly": Genre(2, (140, 215), {
        "time": ("x..x.xx..x.x", "x..x..x..x..", "x.xx.xx.xx.x"),
        "kick": ("x.....x.....", "x..x..x..x..", "X....XX....."),
        "snare": ("...X.....X..", "..oX.o.ooX.o", "...X.....X.x", "..gX.gx.gX.g"),
    }, HAT_OR_RIDE, steps=3, swing=(0.58, 0.7), machine=0.0),
    "surf": Genre(2, (120, 185), {
        "time": ("x.x.x.x.x.x.x.x.", "x...x...x...x...", ""),
        "kick": ("X.......X.......", "X...X...X...X...", "X.....X.X......."),
        "snare": ("....X.X.....X...", "....X.......X.X.", "x.x.X.x.x.x.X.x."),
        "tom_low": ("", "", "x.x.x.x.x.x.x.x.", "x.xxx.xxx.xxx.xx"),
        "tom_high": ("", "", "....x.......x..."),
    }, {"ride": 0.5, "hihat_closed": 0.3, "hihat_half": 0.2}, machine=0.0),
    "second_line": Genre(1.5, (85, 115), {
        "snare": ("X.gXggX.gXg.X.gg", "XggXggX.ggXgXg.g", "x.gXg.xgX.gxX.g."),
        "kick": ("X.....X.....X...", "X..X..X...X.X...", "x.....x...x....."),
        "hihat_pedal": ("....x.......x...", ""),
        "cowbell": ("", "", "x..x..x...x.x..."),
    }, swing=(0.5, 0.6), swing_beats=0.5, machine=0.0, soft=(0.5, 0.95)),
    "slosh": Genre(3, (80, 170), {
        "time": ("x.x.x.x.x.x.x.x.", "x...x...x...x...", "X.o.X.o.X.o.X.o."),
        "kick": ("X.......X.......", "X.....X.X.......", "X..X....X.X.....", "X.X...X.X.X....."),
        "snare": ("....X.......X...", "....X..2.2..X..2"),
    }, {"hihat_half": 0.55, "hihat_open": 0.35, "crash": 0.1}, machine=0.0, soft=(0.75, 1.0)),
    "busy_rock": Genre(3, (80, 160), {
        "time": ("x.x.x.x.x.x.x.x.", "xxxxx.xxxxxxx.xx", "X...x...X...x..."),
        "kick": ("X..3.3X..3X..33.", "X.X3..3X.3X.3..X", "3.33.33.33.33.33"),
        "snare": ("..2.X..h.h2.X.22", "..h.X.2g.g..X3.3", "2.2.X.2.2.2.X.22"),
        "tom_low": ("", "", "............2.22"),
    }, HAT_OR_RIDE, machine=0.0, soft=(0.7, 1.0)),
    "two_handed": Genre(2, (85, 130), {
        "time": ("xxxx.xxxxxxx.xxx", "XoXo.oXoXoXo.oXo", "xgxx.gxxxgxx.gxx"),
        "kick": ("X.......X.......", "X...X...X...X...", "X..X....X.X....."),
        "snare": ("....X.......X...",),
        "hihat_open": ("", "", "..............x."),
    }),
    "simple_loop": Genre(9, (60, 160), {
        "time": (*_EIGHTHS[:2], *_QUARTERS, "xxxxxxxxxxxxxxxx", "", "..x...x...x...x."),
        "kick": ("x.......x.......", "x.....x.x.......", "x...x...x...x...", "x..x....x.......", "x.x.....x.x.....",
                 "3333333333333333", "x.......x.x....."),
        "snare": ("....x.......x...", "....x.......x..x", "....x..x....x...", "", "....x...x...x..."),
        "hihat_open": ("", "", "", "..............x.", "..x...x...x...x."),
    }, machine=0.35, fills=0.05, pedal=0.0),
}
# fmt: on
