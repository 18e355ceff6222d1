"""The file as pretty_midi and mido read it: notes, seconds, grid lines, tempo."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import mido
import numpy as np
import pretty_midi
import pytest

from serve_app.models.drums.beats import track_beats
from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.files import NOTES, midi_bytes
from serve_app.models.drums.hits import Strokes, onset_train, place_hits
from serve_app.results import MAX_BPM, MIN_BPM, Drum, DrumHit, DrumTranscript, TempoChange


@dataclass(frozen=True)
class Note:
    tick: int
    time_s: float
    note: int
    velocity: int


def transcript(
    times_s: list[float] | np.ndarray,
    tempo_map: list[tuple[float, float]],
    *,
    drum: Drum = Drum.KICK,
    duration_s: float | None = None,
) -> DrumTranscript:
    hits = tuple(DrumHit(float(t) + 0.004, float(t), drum, 100, 0.9) for t in times_s)
    changes = tuple(TempoChange(start_s, bpm) for start_s, bpm in tempo_map)
    last_s = max([0.0, *(hit.time_s for hit in hits)])
    return DrumTranscript(hits, changes[0].bpm, changes, duration_s or last_s + 1.0, "test")


def by_mido(data: bytes) -> list[Note]:
    """Read notes with a clock of our own, in exact microseconds."""
    file = mido.MidiFile(file=io.BytesIO(data))
    tempos: list[tuple[int, int]] = []
    notes: list[tuple[int, mido.Message]] = []
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                assert track is file.tracks[0]
                tempos.append((tick, message.tempo))
            if message.type == "note_on" and message.velocity:
                assert message.channel == 9
                notes.append((tick, message))
    assert tempos[0][0] == 0

    def seconds(tick: int) -> float:
        ends = [*(start for start, _ in tempos[1:]), max(tick, tempos[-1][0])]
        spans = ((max(0, min(tick, end) - start), tempo) for (start, tempo), end in zip(tempos, ends, strict=True))
        return sum(length * tempo for length, tempo in spans) / file.ticks_per_beat / 1e6

    return [Note(tick, seconds(tick), message.note, message.velocity) for tick, message in notes]


def by_pretty_midi(data: bytes) -> list[Note]:
    file = pretty_midi.PrettyMIDI(io.BytesIO(data))
    assert [instrument.is_drum for instrument in file.instruments] == [True] * len(file.instruments)
    notes = [note for instrument in file.instruments for note in instrument.notes]
    assert all(note.end > note.start for note in notes)
    return sorted(
        (Note(file.time_to_tick(note.start), note.start, note.pitch, note.velocity) for note in notes),
        key=lambda note: (note.tick, note.note),
    )


def set_tempos(data: bytes) -> list[tuple[int, float]]:
    tick, found = 0, []
    for message in mido.MidiFile(file=io.BytesIO(data)).tracks[0]:
        tick += message.time
        if message.type == "set_tempo":
            found.append((tick, mido.tempo2bpm(message.tempo)))
    return found


def partial_bar(data: bytes) -> int:
    """Return the length in ticks of the bar before the first whole one."""
    file = mido.MidiFile(file=io.BytesIO(data))
    tick, found = 0, []
    for message in file.tracks[0]:
        tick += message.time
        if message.type == "time_signature":
            found.append((tick, message.numerator, message.denominator))
    if not found:
        return 0
    [(start, upper, lower), (end, *metre)] = found
    assert (start, metre) == (0, [4, 4])
    assert end == file.ticks_per_beat * 4 * upper / lower
    return end


def steps_off(data: bytes, times_s: np.ndarray, *, lines: int = 1) -> list[int]:
    """Return how many ticks the note nearest to each of these times is off a line; `lines` a beat."""
    per_line = mido.MidiFile(file=io.BytesIO(data)).ticks_per_beat // lines
    notes = by_mido(data)
    nearest = (min(notes, key=lambda note: abs(note.time_s - time_s)) for time_s in times_s)
    return [(note.tick - partial_bar(data) + per_line // 2) % per_line - per_line // 2 for note in nearest]


def check_tempos(data: bytes, bpm: float) -> None:
    """Check the tempo events of a song of this tempo, as both libraries read them."""
    tempos = [tempo for _, tempo in set_tempos(data)]
    assert tempos == pytest.approx(pretty_midi.PrettyMIDI(io.BytesIO(data)).get_tempo_changes()[1].tolist())
    assert tempos[0] == pytest.approx(bpm, rel=0.01)
    assert all(MIN_BPM <= tempo <= MAX_BPM for tempo in tempos)


def check_both(data: bytes) -> list[Note]:
    """Return the notes on which both libraries agree."""
    ours, theirs = sorted(by_mido(data), key=lambda note: (note.tick, note.note)), by_pretty_midi(data)
    assert [(note.tick, note.note, note.velocity) for note in ours] == [
        (note.tick, note.note, note.velocity) for note in theirs
    ]
    np.testing.assert_allclose([note.time_s for note in ours], [note.time_s for note in theirs], atol=1e-6)
    return ours


def test_general_midi_drums_together_at_the_tempo() -> None:
    hits = tuple(DrumHit(0.501, 0.5, drum, velocity, 0.9) for drum, velocity in zip(Drum, (127, 1, 64), strict=True))
    data = midi_bytes(DrumTranscript(hits, 120.0, (TempoChange(0.0, 120.0),), 2.0, "test"))
    assert check_both(data) == [Note(480, 0.5, 36, 127), Note(480, 0.5, 38, 1), Note(480, 0.5, 42, 64)]
    assert set_tempos(data) == [(0, 120.0)]
    times_s, tempi = pretty_midi.PrettyMIDI(io.BytesIO(data)).get_tempo_changes()
    assert (times_s.tolist(), tempi.tolist()) == ([0.0], [120.0])
    assert mido.MidiFile(file=io.BytesIO(data)).length == pytest.approx(2.0)


TICK_S = 60.0 / 480  # of a beat a second


@pytest.mark.parametrize("bpm", [20.0, 20.1, 61.3, 97.0, 120.0, 219.9, 399.0, 400.0])
@pytest.mark.parametrize("first_beat", [0.0, 0.0007, 0.003, 0.02, 0.1, 0.37, 0.5, 0.985, 1.4, 7.2])
def test_from_the_start_at_the_songs_tempo_and_soon_on_quarter_notes(bpm: float, first_beat: float) -> None:
    beat_s = 60.0 / bpm
    start_s = first_beat * beat_s
    sixteenths = np.array([0, 1, 2, 4, 7, 16, 20, 32, 100, 400])
    times_s = start_s + sixteenths * beat_s / 4
    data = midi_bytes(transcript(times_s, [(start_s, bpm)]))
    check_tempos(data, bpm)
    assert set_tempos(data)[0][1] == pytest.approx(bpm, rel=1e-5)
    assert all(tempo == pytest.approx(bpm, rel=0.0101) for _, tempo in set_tempos(data))
    notes = check_both(data)
    assert [note.time_s for note in notes] == pytest.approx(times_s.tolist(), abs=TICK_S / bpm)
    off = steps_off(data, times_s, lines=4)
    assert max(map(abs, off)) <= 30  # a 64th note
    if MIN_BPM * 1.01 < bpm < MAX_BPM / 1.01:
        assert max(map(abs, off)) <= 15
        assert off[6:] == [0] * 4  # from five beats on


@pytest.mark.parametrize("first_s", [0.0, 0.0004, 0.0015, 0.003, 0.012, 0.05, 0.13, 0.4])
@pytest.mark.parametrize("bpm", [None, 20.0, 63.5, 120.0, 400.0])
def test_first_stroke_near_the_start_of_the_file(first_s: float, bpm: float | None) -> None:
    """From the beat tracker on: 48,820 BPM were written for a first stroke at 1.5 ms."""
    struck_s = first_s + np.arange(48) * 0.25
    strokes = {
        "kick": Strokes(struck_s[::4], np.full(12, 0.9), np.full(12, 110)),
        "snare": Strokes(struck_s[2::4], np.full(12, 0.9), np.full(12, 110)),
        "hihat": Strokes(struck_s, np.full(48, 0.8), np.full(48, 90)),
    }
    check_song(strokes, 14.0, bpm)


def check_song(strokes: dict[str, Strokes], duration_s: float, bpm: float | None = None) -> DrumTranscript:
    """Track the beats of strokes, and check both files; return the transcript."""
    grid = track_beats(onset_train(strokes), duration_s, bpm)
    hits = place_hits(strokes, grid, InferenceConfig())
    song = DrumTranscript(hits, grid.bpm, grid.tempo_map, duration_s, "test")
    assert all(MIN_BPM <= change.bpm <= MAX_BPM for change in song.tempo_map)
    for quantized in (True, False):
        data = midi_bytes(song, quantized=quantized)
        check_tempos(data, song.bpm)
        heard = {(note.note, note.time_s) for note in check_both(data)}
        tick_s = (
            max(60.0 / change.bpm for change in song.tempo_map) / mido.MidiFile(file=io.BytesIO(data)).ticks_per_beat
        )
        for hit in hits:
            time_s = hit.quantized_s if quantized else hit.time_s
            assert min(abs(time_s - at_s) for note, at_s in heard if note == NOTES[hit.drum]) <= tick_s
    return song


def struck(*times_s: float) -> dict[str, Strokes]:
    """Return strokes of the kick at these times, and none of the others."""
    none = Strokes(np.empty(0), np.empty(0), np.empty(0, dtype=int))
    kicks = Strokes(np.array(times_s, dtype=float), np.full(len(times_s), 0.9), np.full(len(times_s), 110))
    return {"kick": kicks, "snare": none, "hihat": none}


@pytest.mark.parametrize(
    "times_s",
    [
        (),
        (0.0,),
        (0.0015,),
        (3.99,),
        (1.0, 1.0, 1.0),
        (0.5, 0.51, 0.52),
        (0.0, 0.0015, 0.5, 0.5, 1.0),
        (0.0015, 3.999),
        (0.3, 0.8, 1.3, 1.8, 61.95, 62.4, 62.85),
        (0.2, 0.21, 40.0, 40.001, 90.0),
        tuple(0.001 + index * 0.05 for index in range(80)),
        tuple(np.cumsum(np.geomspace(1.2, 0.25, 60))),
    ],
    ids=[
        "none",
        "start",
        "near_start",
        "end",
        "at_once",
        "flam",
        "two_at_once",
        "far",
        "pause",
        "lonely",
        "roll",
        "speeding_up",
    ],
)
def test_strokes_without_a_steady_beat(times_s: tuple[float, ...]) -> None:
    check_song(struck(*times_s), max([4.0, *times_s]))


def test_songs_one_after_the_other() -> None:
    """At the joint one beat has another length: it is not absurd either."""
    rng = np.random.default_rng(3)
    for _ in range(6):
        times_s, start_s = [], 0.0015
        for bpm in rng.uniform(60, 225, 3):
            times_s += (start_s + np.arange(40) * 30 / bpm).tolist()
            start_s = times_s[-1] + rng.uniform(0.05, 12.0)
        check_song(struck(*times_s), start_s)


@pytest.mark.parametrize(
    "tempo_map",
    [
        [(0.0015, 100.0), (0.0015, 120.0)],
        [(0.5, 120.0), (1.0, 48_820.0), (1.0012, 120.0)],
        [(0.5, 120.0), (1.0, 3.0), (21.0, 120.0)],
        [(0.2, 90.0), (0.21, 110.0), (0.215, 120.0)],
    ],
    ids=["twice", "absurd", "below MIDI's", "dense"],
)
def test_no_tempo_map_leads_to_an_absurd_event(tempo_map: list[tuple[float, float]]) -> None:
    times_s = np.arange(0.0, 30.0, 0.31)
    data = midi_bytes(transcript(times_s, tempo_map))
    check_tempos(data, tempo_map[0][1])
    assert [note.time_s for note in check_both(data)] == pytest.approx(times_s.tolist(), abs=TICK_S / MIN_BPM)


def test_drifting_song_begins_with_its_mean_tempo() -> None:
    song = transcript(np.arange(0.3, 30.0, 0.5), [(0.3, 100.0), (6.3, 110.0), (15.0, 125.0)])
    song = replace(song, bpm=115.0)
    data = midi_bytes(song)
    assert set_tempos(data)[0] == (0, pytest.approx(115.0, rel=1e-5))
    assert set_tempos(data)[1] == (1, pytest.approx(100.0, rel=0.011))
    check_tempos(data, 115.0)
    assert [note.time_s for note in check_both(data)] == pytest.approx(np.arange(0.3, 30.0, 0.5), abs=TICK_S / 100.0)


@pytest.mark.parametrize("pickup", [1, 2, 3])
def test_notes_before_the_first_beat_lie_on_the_grid_too(pickup: int) -> None:
    start_s, sixteenth_s = 0.5, 0.125
    times_s = np.array([start_s - pickup * sixteenth_s, start_s, start_s + 4 * sixteenth_s])
    data = midi_bytes(transcript(times_s, [(start_s, 120.0)]))
    assert [note.tick for note in check_both(data)] == [480 - 120 * pickup, 480, 960]
    assert partial_bar(data) == 0


def test_note_at_the_start_of_the_file_before_the_first_beat() -> None:
    data = midi_bytes(transcript([0.0, 0.25, 0.75], [(0.25, 120.0)]))
    assert [note.tick for note in check_both(data)] == [0, 240, 720]
    assert partial_bar(data) == 240


def test_tempo_map() -> None:
    tempo_map, beats_s = [], [0.2]
    for bpm, num_beats in [(100.0, 8), (103.0, 4), (140.0, 16), (90.5, 12)]:
        tempo_map.append((beats_s[-1], bpm))
        beats_s += [beats_s[-1] + (1 + index) * 60.0 / bpm for index in range(num_beats)]
    # the tracker rounds its times
    rounded = [(round(start_s, 3), bpm) for start_s, bpm in tempo_map]
    data = midi_bytes(transcript(beats_s, rounded))
    notes = check_both(data)
    np.testing.assert_allclose([note.time_s for note in notes], beats_s, atol=0.002)
    assert steps_off(data, np.array(beats_s))[5:] == [0] * (len(beats_s) - 5)
    assert [bpm for _, bpm in set_tempos(data)][-3:] == pytest.approx([103.0, 140.0, 90.5], rel=2e-3)


def test_random_maps_and_played_times_keep_their_seconds() -> None:
    rng = np.random.default_rng(11)
    for _ in range(25):
        tempo_map, now_s = [], float(rng.uniform(0, 2))
        for _ in range(rng.integers(1, 6)):
            bpm = float(rng.uniform(50, 220))
            tempo_map.append((now_s, bpm))
            now_s += int(rng.integers(1, 40)) * 60.0 / bpm
        times_s = np.unique(np.round(rng.uniform(0, now_s + 5, 60), 4))
        quantized = transcript(times_s, tempo_map, drum=Drum.HIHAT)
        tick_s = 60.0 / 50.0 / 480
        for is_quantized, shift_s in ((True, 0.0), (False, 0.004)):
            notes = check_both(midi_bytes(quantized, quantized=is_quantized))
            played_s = times_s + shift_s
            heard_s = np.array([note.time_s for note in notes])
            gaps_s = np.abs(heard_s[:, None] - played_s).min(axis=0)  # merged ones are within a tick
            assert gaps_s.max() < tick_s + 0.0011
            assert len(notes) >= len(played_s) - 3


@pytest.mark.slow
def test_hours_stay_in_time_and_can_be_opened() -> None:
    bpm, hours = 181.0, 5
    num_beats = round(hours * 60 * bpm)
    times_s = 0.21 + np.arange(0, num_beats, 50) * 60.0 / bpm
    data = midi_bytes(transcript(times_s, [(0.21, bpm)]))
    notes = check_both(data)
    half_tick_s = 30.0 / bpm / mido.MidiFile(file=io.BytesIO(data)).ticks_per_beat
    assert notes[0].time_s == pytest.approx(0.21, abs=half_tick_s)
    np.testing.assert_allclose([note.time_s for note in notes[1:]], times_s[1:], atol=0.0015)
    assert steps_off(data, times_s[1:]) == [0] * (len(times_s) - 1)
    check_tempos(data, bpm)


def test_strokes_on_one_tick_are_one_note_as_loud_as_the_loudest() -> None:
    hits = (
        DrumHit(0.49, 0.5, Drum.SNARE, 40, 0.9),
        DrumHit(0.49, 0.5, Drum.KICK, 50, 0.9),
        DrumHit(0.52, 0.5, Drum.SNARE, 90, 0.9),
    )
    song = DrumTranscript(hits, 120.0, (TempoChange(0.0, 120.0),), 2.0, "test")
    assert check_both(midi_bytes(song)) == [Note(480, 0.5, 36, 50), Note(480, 0.5, 38, 90)]
    assert [note.tick for note in check_both(midi_bytes(song, quantized=False))] == [470, 470, 499]


def test_dense_strokes_end_before_the_next_begins() -> None:
    times_s = np.arange(20) * 0.01
    data = midi_bytes(transcript(times_s, [(0.0, 120.0)]))
    assert len(check_both(data)) == 20
    is_on = False
    for message in mido.MidiFile(file=io.BytesIO(data)).tracks[1]:
        if message.type in ("note_on", "note_off"):
            assert (message.type == "note_on") != is_on
            is_on = not is_on


def test_no_hits() -> None:
    data = midi_bytes(transcript([], [(0.0, 120.0)], duration_s=3.0))
    assert check_both(data) == []
    assert set_tempos(data) == [(0, 120.0)]
    file = mido.MidiFile(file=io.BytesIO(data))
    assert (file.length, file.ticks_per_beat) == (pytest.approx(3.0), 480)
