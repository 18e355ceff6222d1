"""Strokes that people recorded and gave away (CC0), as Sonic Pi ships them: `bd_*`, `sn_*`, `hat_*`, `drum_*`, ...

Sorted by name and by ear of the spectrogram. Left out is what could be one drum or another (`elec_lo_snare` has more
kick than snare in it, `elec_fuzz_tom` too, `elec_cymbal` might be an open hi-hat, `hat_len` and `hat_metal` are no
hi-hats) and what is no single stroke (`drum_roll`, `elec_filt_snare`, `loop_*`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from training.drums.recordings import SAMPLE_RATE_HZ, Layer, Recording, trim

FOLDER = Path("/work/shared/data/drums")
_SOFT_VELOCITY = 0.5  # of those that come as a hard and a soft stroke
_SLOPE_DB = 30.0  # for ten times the velocity, where one stroke is all there is

# the kit of drum_* was recorded by one person, who also made bd_gas: held out as a whole
TRAIN: dict[str, tuple[str, ...]] = {
    "kick": (
        *("bd_808", "bd_ada", "bd_boom", "bd_chip", "bd_fat", "bd_haus", "bd_klub", "bd_mehackit", "bd_pure"),
        *("bd_tek", "bd_zome", "bd_zum", "drum_heavy_kick", "elec_hollow_kick"),
    ),
    "snare": ("sn_dolf", "sn_zome", "sn_generic", "elec_snare", "elec_mid_snare"),
    "hihat_closed": (
        *("hat_bdu", "hat_gnu", "hat_hier", "hat_mess", "hat_raw", "hat_sci", "hat_star", "hat_tap", "hat_yosh"),
        *("hat_zan", "hat_zap"),
    ),
    "hihat_half": ("hat_cats", "hat_noiz"),
    "cowbell": ("drum_cowbell",),
    "other": (
        *("elec_beep", "elec_blip", "elec_blup", "elec_bong", "elec_flip", "elec_ping", "elec_plip", "elec_tick"),
        *("elec_triangle", "elec_twang"),
    ),
}
HELD_OUT: dict[str, tuple[str, ...]] = {
    "kick": ("drum_bass", "bd_gas", "bd_jazz", "bd_sone", "elec_soft_kick"),
    "snare": ("drum_snare", "sn_dub", "elec_hi_snare"),
    "hihat_closed": ("drum_cymbal_closed", "hat_cab", "hat_gem", "hat_psych", "hat_snap", "hat_zild"),
    "hihat_half": ("hat_gump",),
    "hihat_open": ("drum_cymbal_open",),
    "hihat_pedal": ("drum_cymbal_pedal",),
    "ride": ("drum_cymbal",),
    "splash": ("drum_splash",),
    "tom_high": ("drum_tom_hi",),
    "tom_mid": ("drum_tom_mid",),
    "tom_low": ("drum_tom_lo",),
    "other": ("elec_bell", "elec_blip2", "elec_chime", "elec_pop", "elec_twip", "elec_wood"),
}
ACOUSTIC = frozenset({"bd_jazz", "sn_dolf", "sn_generic", "sn_zome", "hat_zild", "hat_zan", "hat_mess", "hat_cats"})


def is_acoustic(name: str) -> bool:
    """Return whether a stroke was played on a drum."""
    return name in ACOUSTIC or name.startswith("drum_")


def read(names: dict[str, tuple[str, ...]], folder: Path = FOLDER) -> list[Recording]:
    """Return the recordings of a split; none where the folder is not there."""
    if not folder.is_dir():
        return []
    return [_read(name, articulation, folder) for articulation, group in names.items() for name in group]


def _read(name: str, articulation: str, folder: Path) -> Recording:
    if (folder / f"{name}_hard.flac").exists():
        soft, hard = (_layer(folder / f"{name}_{way}.flac") for way in ("soft", "hard"))
        layers: tuple[Layer, ...] = (replace(soft, velocity=_SOFT_VELOCITY), hard)
    else:
        layers = (_layer(folder / f"{name}.flac"),)
    velocities = (0.1, _SOFT_VELOCITY, 1.0)
    middle_db = layers[-1].level_db + _SLOPE_DB * np.log10(_SOFT_VELOCITY)
    if len(layers) == 2:
        middle_db = min(layers[0].level_db, layers[1].level_db - 3.0)
    soft_db = middle_db + _SLOPE_DB * np.log10(velocities[0] / _SOFT_VELOCITY)
    return Recording(name, articulation, layers, velocities, (float(soft_db), float(middle_db), layers[-1].level_db))


def _layer(path: Path) -> Layer:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return Layer.of(1.0, trim(soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)))
