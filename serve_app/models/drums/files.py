"""`midi_bytes` and `text_log`: a drum transcript as a General MIDI file, and as text for people.

The MIDI file has channel 10, kick 36, snare 38, closed hi-hat 42, and the tempo map. Bars are not detected, so it has
no metre but for a partial bar. mido writes it, not pretty_midi (docs/decisions/dependencies.md).

**Seconds are exact, and no tempo is made up.** Second 0 of the recording is tick 0, and each note has the tick that is
nearest to its second by the file's own tempo events. The first tempo event is the song's tempo: many programs read no
other. All of them lie between `MIN_BPM` and `MAX_BPM`.

**Grid lines.** Where the first beat comes after second 0, the file begins with a partial bar, at the song's tempo, that
ends near this beat. Its length is a multiple of a 64th note. The rest, less than a 128th note, is made up for within
the next beats by a change of tempo of less than 1 %. From there on beats fall on quarter notes.

MIDI's tempo is a whole number of microseconds a beat. It changes by a microsecond now and then, which keeps the beats
within a quarter of a tick of the recording's, or within a millisecond.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import mido
import numpy as np

from serve_app.models.drums.config import InferenceConfig
from serve_app.results import MAX_BPM, MIN_BPM, Drum, DrumTranscript, TempoChange

_Event = tuple[int, mido.Message | mido.MetaMessage]  # tick, message

NOTES = {Drum.KICK: 36, Drum.SNARE: 38, Drum.HIHAT: 42}
_CHANNEL = 9  # "channel 10" counts from 1
# All usual grids fall on ticks of 480: it divides by 2 to 6, 8, 10, 12, 15, 16. The lower ones are for long files.
_TICKS_PER_BEAT = (480, 240, 96, 48, 24, 12)
_MAX_TICKS = 9_900_000  # pretty_midi refuses files with more than 10 million
_NOTE_BEATS = 1 / 8
_MAX_SHIFT = 0.01  # of the tempo, until beats fall on quarter notes
_SAME_TEMPO_US = 1.5  # a beat: a first stretch that is nearer to the song's tempo needs no event before it
_FINEST_NOTE = 64  # of a partial bar: notation programs know no shorter notes
_MAX_CORRECTION_BEATS = 2000  # half a microsecond a beat is then a millisecond
_SHORTEST_BEAT_US, _LONGEST_BEAT_US = math.ceil(60e6 / MAX_BPM), math.floor(60e6 / MIN_BPM)
# The map's changes fall on beats: this difference from a whole number of beats, or this share of it, is rounding.
_BEAT_TOLERANCE, _BEAT_TOLERANCE_SHARE = 0.02, 1e-3


def midi_bytes(transcript: DrumTranscript, *, quantized: bool = True) -> bytes:
    """Return the transcript as a Standard MIDI File, type 1: a tempo track and a drum track.

    Strokes of one drum on the same tick are one note, as loud as the loudest. `quantized`: notes have their quantised
    times, not the played ones.
    """
    hits = transcript.hits
    times_s = np.array([max(0.0, hit.quantized_s if quantized else hit.time_s) for hit in hits], dtype=np.float64)
    clock = _clock(transcript)
    notes: dict[tuple[int, int], int] = {}  # (tick, note) to velocity
    for hit, tick in zip(hits, clock.ticks_at(times_s).tolist(), strict=True):
        key = (tick, NOTES[hit.drum])
        notes[key] = max(notes.get(key, 0), hit.velocity)
    end_tick = int(clock.ticks_at(np.array([transcript.duration_s]))[0])
    file = mido.MidiFile(type=1, ticks_per_beat=clock.ticks_per_beat)
    file.tracks.append(_track("Tempo", _clock_events(clock), end_tick))
    file.tracks.append(_track("Drums", _note_events(notes, round(clock.ticks_per_beat * _NOTE_BEATS)), end_tick))
    written = io.BytesIO()
    file.save(file=written)
    return written.getvalue()


@dataclass(frozen=True, slots=True)
class _Clock:
    """Ticks and seconds of the same moments, as readers of the file's tempo events count them.

    Attributes:
        ticks_per_beat: the file's resolution.
        partial_bar: its length in ticks; 0: none.
        ticks: (n,) int, rising from 0, of the tempo events.
        seconds: (n,), rising from 0.
        tempos: (n,) int, microseconds a beat from there on.
    """

    ticks_per_beat: int
    partial_bar: int
    ticks: np.ndarray
    seconds: np.ndarray
    tempos: np.ndarray

    def ticks_at(self, times_s: np.ndarray) -> np.ndarray:
        """Return the nearest ticks, (n,) int."""
        at = np.maximum(np.searchsorted(self.seconds, times_s, side="right") - 1, 0)
        exact = self.ticks[at] + (times_s - self.seconds[at]) * 1e6 * self.ticks_per_beat / self.tempos[at]
        return np.round(exact).astype(int)


def _clock(transcript: DrumTranscript) -> _Clock:
    """Return the file's clock: from second 0 at the song's tempo, and soon with the beats on quarter notes."""
    changes = transcript.tempo_map
    bpm, last_bpm = changes[0].bpm, changes[-1].bpm
    starts_s = [max(0.0, change.start_s) for change in changes]
    beats = np.cumsum([0.0, *(_beats_between(*pair) for pair in pairwise(changes))])  # from the first beat
    lead = starts_s[0] * bpm / 60.0  # beats
    length = lead + beats[-1] + max(0.0, transcript.duration_s - starts_s[-1]) * last_bpm / 60.0 + 2.0
    per_beat = next((each for each in _TICKS_PER_BEAT if length * each <= _MAX_TICKS), _TICKS_PER_BEAT[-1])

    per_unit = max(per_beat * 4 // _FINEST_NOTE, per_beat // (per_beat & -per_beat))  # ticks of a whole power of two
    units = lead * per_beat / per_unit
    if bpm * (1 + _MAX_SHIFT) > MAX_BPM:  # made up for by a slower tempo
        whole = math.floor(units)
    elif bpm < MIN_BPM * (1 + _MAX_SHIFT):
        whole = math.ceil(units)
    else:
        whole = round(units)
    first_tick = whole * per_unit
    late = first_tick - lead * per_beat  # ticks between second 0 and the place where the grid has it
    even = math.ceil(abs(late) / per_beat / _MAX_SHIFT - lead)  # from this beat on, beats fall on quarter notes

    beats = np.append(beats, [beats[-1] + max(2.0, even + 1.0, length - lead - beats[-1])])
    seconds = np.append(starts_s, starts_s[-1] + (beats[-1] - beats[-2]) * 60.0 / last_bpm)
    knots = np.unique([-lead, *beats[1:], max(0, even)])
    known_beats, known_s = (beats, seconds) if lead <= 0 else (np.append(-lead, beats), np.append(0.0, seconds))
    share = np.clip(1.0 - (knots + lead) / max(even + lead, 1e-9), 0.0, 1.0) if late else np.zeros(len(knots))
    ticks = np.round(first_tick + knots * per_beat - share * late).astype(int)
    ticks, kept = np.unique(ticks, return_index=True)
    at_s = np.interp(knots, known_beats, known_s)[kept]
    return _told(per_beat, first_tick % per_beat, ticks.tolist(), at_s.tolist(), transcript.bpm)


def _told(per_beat: int, partial_bar: int, ticks: list[int], at_s: list[float], bpm: float) -> _Clock:
    """Return the clock of tempo events that lead from each of these ticks to the next at the right second."""
    found: list[tuple[int, float, int]] = []  # tick, second, microseconds a beat
    file_s = 0.0
    song = _whole_tempo(60e6 / bpm)
    for (tick, start_s), (end, end_s) in pairwise(zip(ticks, at_s, strict=True)):
        tick_us = (end_s - start_s) * 1e6 / (end - tick)
        longest = per_beat * max(1, min(_MAX_CORRECTION_BEATS, int(tick_us / 2)))  # ticks
        begins = list(range(tick, end, longest))
        if not found and abs(tick_us * per_beat - song) > _SAME_TEMPO_US and end - tick > 1:
            begins.insert(1, tick + 1)  # the song's own tempo comes first, for one tick
        for begin, stop in pairwise([*begins, end]):
            stop_s = start_s + (stop - tick) * tick_us / 1e6
            tempo = song if stop == 1 else _whole_tempo((stop_s - file_s) * 1e6 * per_beat / (stop - begin))
            if not found or tempo != found[-1][2]:
                found.append((begin, file_s, tempo))
            file_s += (stop - begin) * tempo / 1e6 / per_beat
    columns = (np.array(column) for column in zip(*found, strict=True))
    return _Clock(per_beat, partial_bar, *columns)


def _whole_tempo(exact_us: float) -> int:
    return min(max(round(exact_us), _SHORTEST_BEAT_US), _LONGEST_BEAT_US)


def _beats_between(change: TempoChange, following: TempoChange) -> float:
    beats = (following.start_s - change.start_s) * change.bpm / 60.0
    whole = round(beats)
    is_whole = abs(beats - whole) <= max(_BEAT_TOLERANCE, _BEAT_TOLERANCE_SHARE * beats)
    return float(whole) if whole and is_whole else beats


def _note_events(notes: dict[tuple[int, int], int], length: int) -> Iterator[_Event]:
    """Yield starts and ends by tick; a note ends at the next of its drum."""
    events: list[tuple[int, int, int, int]] = []  # tick, 0 for an end (it comes first), note, velocity
    following: dict[int, int] = {}
    for tick, note in sorted(notes, reverse=True):
        end = min(tick + length, following.get(note, tick + length))
        following[note] = tick
        events += [(tick, 1, note, notes[tick, note]), (end, 0, note, 0)]
    for tick, is_start, note, velocity in sorted(events):
        kind = "note_on" if is_start else "note_off"
        yield tick, mido.Message(kind, channel=_CHANNEL, note=note, velocity=velocity)


def _clock_events(clock: _Clock) -> Iterator[_Event]:
    """Yield the tempos, and the ends of a partial bar, by tick."""
    events: list[_Event] = [
        (tick, mido.MetaMessage("set_tempo", tempo=tempo))
        for tick, tempo in zip(clock.ticks.tolist(), clock.tempos.tolist(), strict=True)
    ]
    if clock.partial_bar:
        bar = Fraction(clock.partial_bar, 4 * clock.ticks_per_beat)  # of a whole note
        lower = max(bar.denominator, 4)
        upper = bar.numerator * lower // bar.denominator
        events.append((0, mido.MetaMessage("time_signature", numerator=upper, denominator=lower)))
        events.append((clock.partial_bar, mido.MetaMessage("time_signature", numerator=4, denominator=4)))
    yield from sorted(events, key=lambda event: event[0])


def _track(name: str, events: Iterator[_Event], end_tick: int) -> mido.MidiTrack:
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name, time=0)])
    last = 0
    for tick, message in events:
        message.time = tick - last
        track.append(message)
        last = tick
    track.append(mido.MetaMessage("end_of_track", time=max(0, end_tick - last)))
    return track


_COLUMNS = ("time_s", "quantized_s", "drum", "velocity", "confidence")


def text_log(transcript: DrumTranscript, filename: str, config: InferenceConfig) -> str:
    """Return the log: a header of lines that begin with `#`, then a stroke a line."""
    counts = {drum: sum(hit.drum == drum for hit in transcript.hits) for drum in Drum}
    first, *later = transcript.tempo_map
    there = f" ({first.bpm:.2f} BPM there)" if later else ""
    header = [
        ("file", " ".join(filename.split())),  # without line breaks
        ("duration", f"{transcript.duration_s:.3f} s"),
        ("tempo", f"{transcript.bpm:.2f} BPM, first beat at {first.start_s:.3f} s{there}"),
        *((("tempo or", f"{other:.2f} BPM"),) if (other := transcript.bpm_alternative) else ()),
        ("model", transcript.model_version),
        ("grid", ", ".join(f"{drum} {_division(config, drum)}" for drum in Drum)),
        ("thresholds", ", ".join(f"{drum} {_threshold(config, drum)}" for drum in Drum)),
        ("hits", f"{len(transcript.hits)} ({', '.join(f'{drum} {count}' for drum, count in counts.items())})"),
        *(("tempo from", f"{each.start_s:.3f} s: {each.bpm:.2f} BPM") for each in later),
        *(("note", note) for note in transcript.notes),
    ]
    lines = [f"# {name}: {value}" for name, value in header]
    lines.append("# " + "\t".join(_COLUMNS))
    lines += [
        f"{hit.time_s:.3f}\t{hit.quantized_s:.3f}\t{hit.drum}\t{hit.velocity}\t{hit.confidence:.2f}"
        for hit in transcript.hits
    ]
    return "\n".join(lines) + "\n"


def _division(config: InferenceConfig, drum: Drum) -> str:
    division = config.division_of(drum)
    return f"1/{division}" if division else "none"


def _threshold(config: InferenceConfig, drum: Drum) -> str:
    value = config.thresholds.get(drum)
    return "the model's" if value is None else f"{value:g}"
