"""`midi_bytes` and `text_log`: a drum transcript as a General MIDI file, and as text for people.

The MIDI file has channel 10, kick 36, snare 38, closed hi-hat 42, and the tempo map; no metre, as bars are not
detected. mido writes it, not pretty_midi (docs/decisions/dependencies.md).

**Grid lines and seconds are both right.** The transcript's beats fall on whole quarter notes, so that quantised notes
lie on grid lines of any program, and by the file's own tempo map every note sounds at its second. A first beat after 0
needs a lead-in: the time before the first beat, or before an earlier first note, has a tempo at which it fills quarter
notes. The first tempo event is the song's all the same, one tick long, because many programs read no other.

MIDI's tempo is a whole number of microseconds a beat: over an hour its rounding would move notes by 6 ms. The tempo
therefore changes by a microsecond now and then, which keeps the file within a millisecond of the recording.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import mido
import numpy as np

from serve_app.models.drums.config import InferenceConfig
from serve_app.results import Drum, DrumTranscript, TempoChange

_Event = tuple[int, mido.Message | mido.MetaMessage]  # tick, message

NOTES = {Drum.KICK: 36, Drum.SNARE: 38, Drum.HIHAT: 42}
_CHANNEL = 9  # "channel 10" counts from 1
# All usual grids fall on ticks of 480: it divides by 2 to 6, 8, 10, 12, 15, 16. The lower ones are for long files.
_TICKS_PER_BEAT = (480, 240, 96, 48, 24)
_MAX_TICKS = 9_900_000  # pretty_midi refuses files with more than 10 million
_NOTE_BEATS = 1 / 8
_SHORTEST_LEAD_S = 0.001  # after a shorter lead-in the song begins at tick 0
_CORRECTION_BEATS = 2000  # between two corrections of the tempo: half a microsecond a beat is below a millisecond
_MAX_TEMPO = (1 << 24) - 1  # microseconds a beat, three bytes
# The map's changes fall on beats: this difference from a whole number of beats, or this share of it, is rounding.
_BEAT_TOLERANCE, _BEAT_TOLERANCE_SHARE = 0.02, 1e-3


def midi_bytes(transcript: DrumTranscript, *, quantized: bool = True) -> bytes:
    """Return the transcript as a Standard MIDI File, type 1: a tempo track and a drum track.

    Strokes of one drum on the same tick are one note, as loud as the loudest. `quantized`: notes have their quantised
    times, not the played ones.
    """
    hits = transcript.hits
    times_s = np.array([max(0.0, hit.quantized_s if quantized else hit.time_s) for hit in hits], dtype=np.float64)
    clock = _lay_out(transcript, float(times_s.min(initial=math.inf)))
    notes: dict[tuple[int, int], int] = {}  # (tick, note) to velocity
    for hit, tick in zip(hits, clock.ticks_at(times_s).tolist(), strict=True):
        key = (tick, NOTES[hit.drum])
        notes[key] = max(notes.get(key, 0), hit.velocity)
    end_tick = int(clock.ticks_at(np.array([transcript.duration_s]))[0])
    file = mido.MidiFile(type=1, ticks_per_beat=clock.ticks_per_beat)
    file.tracks.append(_track("Tempo", _tempo_events(clock, end_tick), end_tick))
    file.tracks.append(_track("Drums", _note_events(notes, round(clock.ticks_per_beat * _NOTE_BEATS)), end_tick))
    written = io.BytesIO()
    file.save(file=written)
    return written.getvalue()


@dataclass(frozen=True, slots=True)
class _Clock:
    """Ticks and seconds of the same moments.

    Attributes:
        ticks_per_beat: the file's resolution.
        ticks: (n,) int, rising from 0.
        seconds: (n,), rising from 0, or nearly that; time runs evenly from one to the next.
        bpm: tempo after the last.
    """

    ticks_per_beat: int
    ticks: np.ndarray
    seconds: np.ndarray
    bpm: float

    def ticks_at(self, times_s: np.ndarray) -> np.ndarray:
        """Return the nearest ticks, (n,) int."""
        after_s = np.maximum(times_s - self.seconds[-1], 0.0)
        exact = np.interp(times_s, self.seconds, self.ticks) + after_s * self.bpm / 60.0 * self.ticks_per_beat
        return np.round(exact).astype(int)


def _lay_out(transcript: DrumTranscript, first_note_s: float) -> _Clock:
    """Put the beats on quarter notes, and the time before them into a lead-in."""
    changes = transcript.tempo_map
    bpm, last_bpm = changes[0].bpm, changes[-1].bpm
    starts_s = [max(0.0, change.start_s) for change in changes]
    beats = np.cumsum([0.0, *(_beats_between(*pair) for pair in pairwise(changes))])  # from the first beat
    length = beats[-1] + max(0.0, transcript.duration_s - starts_s[-1]) * last_bpm / 60.0 + 2.0  # lead-in and all
    per_beat = next((each for each in _TICKS_PER_BEAT if length * each <= _MAX_TICKS), _TICKS_PER_BEAT[-1])
    tick_s = 60.0 / bpm / per_beat
    # the song begins with its first beat, or with a note this many ticks earlier, at the song's tempo
    pickup = math.ceil(max(0.0, starts_s[0] - first_note_s) / tick_s - 1e-3)
    lead_s = starts_s[0] - pickup * tick_s
    lead = 0
    if lead_s >= _SHORTEST_LEAD_S:
        quarters = math.ceil((lead_s / tick_s + pickup) / per_beat - _BEAT_TOLERANCE)
        lead = quarters * per_beat - pickup
        lead += per_beat if lead <= 0 else 0
    ticks, seconds = [0], [0.0 if lead else lead_s]
    if lead:
        if abs(lead * tick_s - lead_s) < tick_s / 2:
            lead_s = lead * tick_s
        elif lead > 1 and lead_s > 2 * tick_s:
            ticks, seconds = [0, 1], [0.0, tick_s]
        ticks.append(lead)
        seconds.append(lead_s)
    for beat, start_s in zip(beats, starts_s, strict=True):
        tick = lead + pickup + round(beat * per_beat)
        if tick > ticks[-1]:
            ticks.append(tick)
            seconds.append(start_s)
    return _Clock(per_beat, np.array(ticks), np.array(seconds), last_bpm)


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


def _tempo_events(clock: _Clock, end_tick: int) -> Iterator[_Event]:
    """Yield tempos, in whole microseconds, with which the file's own clock is right at the end of each stretch."""
    last, file_s = 0, clock.seconds[0]
    for tick, length, end_s in _stretches(clock, end_tick):
        tempo = min(max(round((end_s - file_s) * 1e6 * clock.ticks_per_beat / length), 1), _MAX_TEMPO)
        file_s += length * tempo / 1e6 / clock.ticks_per_beat
        if tempo != last:
            yield tick, mido.MetaMessage("set_tempo", tempo=tempo)
            last = tempo


def _stretches(clock: _Clock, end_tick: int) -> Iterator[tuple[int, int, float]]:
    """Yield first tick, length in ticks and end in seconds of the stretches with one tempo."""
    longest = _CORRECTION_BEATS * clock.ticks_per_beat
    beyond = max(end_tick - int(clock.ticks[-1]), clock.ticks_per_beat)
    ticks = [*clock.ticks.tolist(), int(clock.ticks[-1]) + beyond]
    seconds = [*clock.seconds.tolist(), clock.seconds[-1] + beyond * 60.0 / clock.bpm / clock.ticks_per_beat]
    for (tick, start_s), (end, end_s) in pairwise(zip(ticks, seconds, strict=True)):
        for begin in range(tick, end, longest):
            stop = min(begin + longest, end)
            yield begin, stop - begin, start_s + (end_s - start_s) * (stop - tick) / (end - tick)


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
