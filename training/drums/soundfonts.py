"""Drum kits of General MIDI soundfonts, each note recorded by the program fluidsynth.

apt-get install fluidsynth fluid-soundfont-gm musescore-general-soundfont timgm6mb-soundfont
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mido
import numpy as np
import soundfile

from training.drums.recordings import SAMPLE_RATE_HZ, Layer, Recording, trim

PACKAGES = "fluidsynth fluid-soundfont-gm musescore-general-soundfont timgm6mb-soundfont"
TRAIN_FONTS = (
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/sounds/sf3/MuseScore_General_Full.sf3"),
)
HELD_OUT_FONTS = (Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),)

VELOCITIES = (16, 36, 56, 76, 96, 112, 127)
_DRUM_BANK = 128
_DRUM_CHANNEL = 9
_LENGTH_S, _SPACING_S = 3.5, 4.0
_BATCH = 400  # strokes in a run of fluidsynth: half a gigabyte on disk
_TICKS_PER_S = 960  # at the 120 beats a minute of a MIDI file that says nothing else
_PRESET_HEADER = struct.Struct("<20sHH14x")

ARTICULATION_OF_NOTE = {
    **dict.fromkeys((35, 36), "kick"),
    37: "side_stick",
    **dict.fromkeys((38, 40), "snare"),
    39: "clap",
    **dict.fromkeys((41, 43), "tom_low"),
    42: "hihat_closed",
    44: "hihat_pedal",
    **dict.fromkeys((45, 47), "tom_mid"),
    46: "hihat_open",
    **dict.fromkeys((48, 50), "tom_high"),
    **dict.fromkeys((49, 57), "crash"),
    **dict.fromkeys((51, 59), "ride"),
    52: "china",
    53: "ride_bell",
    54: "tambourine",
    55: "splash",
    56: "cowbell",
    **dict.fromkeys((60, 61, 62, 63, 64), "conga"),
    **dict.fromkeys((69, 70), "shaker"),
    **dict.fromkeys((75, 76, 77), "woodblock"),
    **dict.fromkeys((58, 65, 66, 67, 68, 73, 74, 78, 80, 81), "other"),  # without the whistles: they hold a note
}
_ORCHESTRAL = {38: "snare", 40: "snare"}  # the rest is timpani and the like
_BRUSHED = {38: "snare_brush", 39: "snare_brush", 40: "snare_brush"}


class MissingSoundsError(RuntimeError):
    """Raised when fluidsynth or a soundfont is not installed; the message says how to get it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is missing: apt-get install {PACKAGES}")


@dataclass(frozen=True, slots=True)
class Preset:
    """A drum kit of a soundfont."""

    font: Path
    program: int
    name: str

    @property
    def articulations(self) -> dict[int, str]:
        """Return what its notes play."""
        if "marching" in self.name.lower() or self.name == "Metronome":
            return {}  # their notes do not follow General MIDI
        if "orchestra" in self.name.lower():
            return _ORCHESTRAL
        return ARTICULATION_OF_NOTE | _BRUSHED if "brush" in self.name.lower() else ARTICULATION_OF_NOTE


def drum_presets(font: Path) -> list[Preset]:
    """Return the drum kits of a soundfont in the order of their programs.

    Raises:
        MissingSoundsError: if it is not installed.
    """
    if not font.exists():
        raise MissingSoundsError(f"soundfont {font}")
    with font.open("rb") as file:
        headers = _preset_headers(file)
    presets = [
        Preset(font, program, name.split(b"\0")[0].decode("latin-1").strip())
        for name, program, bank in _PRESET_HEADER.iter_unpack(headers)
        if bank == _DRUM_BANK
    ]
    return sorted(presets, key=lambda preset: preset.program)


def _preset_headers(file: BinaryIO) -> bytes:
    for kind, size in _chunks(file, offset=12, end=file.seek(0, 2)):
        start = file.tell()
        if kind == b"LIST" and file.read(4) == b"pdta":
            for inner, length in _chunks(file, offset=start + 4, end=start + size):
                if inner == b"phdr":
                    return file.read(length)
    raise ValueError(f"{file.name} is no soundfont: it has no preset headers")


def _chunks(file: BinaryIO, offset: int, end: int) -> Iterator[tuple[bytes, int]]:
    while offset + 8 <= end:
        file.seek(offset)
        kind, size = struct.unpack("<4sI", file.read(8))
        yield kind, size
        offset += 8 + size + size % 2


def record(font: Path) -> dict[str, list[Recording]]:
    """Record every note of every drum kit of a soundfont that sounds, at all `VELOCITIES`.

    Returns:
        by the name of the kit. What several kits share is recorded once, under the first kit's name.

    Raises:
        MissingSoundsError: if the soundfont or fluidsynth is not installed.
    """
    presets = drum_presets(font)
    notes = [(preset, note) for preset in presets for note in preset.articulations]
    known: dict[tuple[str, bytes], tuple[Preset, int]] = {}
    firsts: dict[tuple[Preset, int], tuple[Preset, int]] = {}
    for (preset, note), heard in zip(notes, _play([(*each, 100) for each in notes]), strict=True):
        if np.abs(heard).max() > 1e-4:
            key = preset.articulations[note], np.round(heard * 4096).astype(np.int16).tobytes()
            firsts[preset, note] = known.setdefault(key, (preset, note))
    unique = list(known.values())
    strokes = [(preset, note, velocity) for preset, note in unique for velocity in VELOCITIES]
    sounds = _play(strokes)
    recordings = {
        (preset, note): Recording(
            f"{font.stem}/{preset.name}/{note}",
            preset.articulations[note],
            tuple(Layer.of(velocity / VELOCITIES[-1], trim(next(sounds))) for velocity in VELOCITIES),
        ).thinned()
        for preset, note in unique
    }
    kits: dict[str, list[Recording]] = {}
    for (preset, _), first in firsts.items():
        kits.setdefault(f"{font.stem}/{preset.name}", []).append(recordings[first])
    return kits


def _play(strokes: Iterable[tuple[Preset, int, int]]) -> Iterator[np.ndarray]:
    """Yield each stroke (kit, note, velocity) in isolation, float32 mono of `_LENGTH_S`."""
    strokes = list(strokes)
    for start in range(0, len(strokes), _BATCH):
        batch = strokes[start : start + _BATCH]
        with tempfile.TemporaryDirectory() as folder:
            wav = _render(batch[0][0].font, _score(batch), Path(folder))
            with soundfile.SoundFile(wav) as file:
                for number in range(len(batch)):
                    file.seek(round(number * _SPACING_S * SAMPLE_RATE_HZ))
                    yield file.read(round(_LENGTH_S * SAMPLE_RATE_HZ), dtype="float32", always_2d=True).mean(axis=1)


def _score(strokes: list[tuple[Preset, int, int]]) -> mido.MidiFile:
    track = mido.MidiTrack()
    for preset, note, velocity in strokes:
        play = {"channel": _DRUM_CHANNEL, "note": note}
        track += [
            mido.Message("program_change", channel=_DRUM_CHANNEL, program=preset.program),
            mido.Message("note_on", velocity=velocity, **play),
            mido.Message("note_off", time=round(_LENGTH_S * _TICKS_PER_S), **play),
            mido.Message("control_change", channel=_DRUM_CHANNEL, control=120),  # all sound off
            mido.Message("control_change", channel=_DRUM_CHANNEL, control=120, time=round(0.5 * _TICKS_PER_S)),
        ]
    return mido.MidiFile(tracks=[track], ticks_per_beat=_TICKS_PER_S // 2)


def _render(font: Path, score: mido.MidiFile, folder: Path) -> Path:
    program = shutil.which("fluidsynth")
    if program is None:
        raise MissingSoundsError("the program fluidsynth")
    midi, wav = folder / "score.mid", folder / "sound.wav"
    score.save(midi)
    switches = ("-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "0.4", "-r", str(SAMPLE_RATE_HZ))
    loading = ("-o", "synth.dynamic-sample-loading=1")  # no more of a soundfont than its drums
    command = [program, *switches, *loading, "-T", "wav", "-O", "float", "-F", str(wav), str(font), str(midi)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not wav.exists():
        raise RuntimeError(f"fluidsynth could not play {font}: {done.stderr.strip()[-500:]}")
    return wav
