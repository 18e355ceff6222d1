"""Scores: form, harmony, melody and MIDI of composed pieces."""

from __future__ import annotations

import dataclasses
import io
from itertools import pairwise

import numpy as np
import pretty_midi
import pytest

from loadtests import music_measures as measures
from serve_app.models.music.composer.arrangement import compose
from serve_app.models.music.composer.harmony import lead_voices
from serve_app.models.music.composer.midi import midi_bytes
from serve_app.models.music.composer.rhythm import euclid
from serve_app.models.music.composer.score import QUARTERS_PER_BAR, Score
from serve_app.models.music.instruments import Role
from serve_app.models.music.plan import another_seed
from serve_app.models.music.scales import MODES, pitch_of, relative_major
from serve_app.results import FormSection
from tests.unit.models.music.plans import plan, several_plans


@pytest.fixture(scope="module")
def scores() -> list[Score]:
    """Pieces of 30 s."""
    return [compose(each) for each in several_plans(60)]


def test_notes_lie_in_the_scale(scores: list[Score]):
    assert min(measures.scale_share(score) for score in scores) >= 0.95


def test_strong_beats_have_chord_tones(scores: list[Score]):
    assert min(measures.strong_chord_share(score) for score in scores) >= 0.8


def test_the_motif_recurs(scores: list[Score]):
    assert min(measures.motif_uses(score) for score in scores) >= 3


def test_the_motif_is_varied_as_well_as_repeated(scores: list[Score]):
    for score in scores:
        lines = {
            tuple(note.pitch for note in score.parts[0].notes if section.first_bar <= bar_of(score, note.beat) < end)
            for section, end in ((section, section.first_bar + section.bars) for section in score.sections)
        }
        assert len(lines - {()}) >= 2


def test_a_is_more_like_a_prime_than_b(scores: list[Score]):
    pairs = [
        (measures.section_similarity(score, "A", "A'"), measures.section_similarity(score, "A", "B"))
        for score in scores
    ]
    complete = [(same, other) for same, other in pairs if same is not None and other is not None]
    assert len(complete) > 20
    assert all(same > other + 0.1 for same, other in complete)


def test_pieces_end_on_the_tonic(scores: list[Score]):
    assert all(measures.ends_on_tonic(score) for score in scores)


def test_lines_are_singable(scores: list[Score]):
    assert max(measures.largest_jump(score) for score in scores) <= 12
    assert max(measures.widest_range(score) for score in scores) <= 18


def test_a_leap_of_the_melody_is_followed_by_a_turn(scores: list[Score]):
    leaps = turns = 0
    for score in scores:
        starts = {section.first_bar * QUARTERS_PER_BAR[score.metre] for section in score.sections}
        notes = score.parts[0].notes
        for one, two, three in zip(notes, notes[1:], notes[2:-1], strict=False):
            leap, after = two.pitch - one.pitch, three.pitch - two.pitch
            if abs(leap) >= 7 and not starts & {two.beat, three.beat}:
                leaps += 1
                turns += after * leap < 0
    assert leaps > 20
    assert turns / leaps > 0.9, (turns, leaps)


def test_voices_move_little_from_chord_to_chord(scores: list[Score]):
    moved = []
    for score in scores:
        for one, two in pairwise(score.chords):
            nearest = [min(abs(pitch - old) for old in one.voicing) for pitch in two.voicing]
            assert max(nearest) <= 7
            moved.append(np.mean(nearest))
    assert np.mean(moved) < 1.2  # semitones; inversions at random, or nearest to the middle, give 1.5 and more
    for score in scores:
        assert all(list(chord.voicing) == sorted(set(chord.voicing)) for chord in score.chords)


def test_phrases_close_with_a_cadence(scores: list[Score]):
    for score in scores:
        assert score.chords[0].root == score.chords[-1].root == 0
        assert score.chords[-1].degrees == (0, 2, 4)
        assert score.chords[-2].root != 0 or score.sections[-1].name == "outro"


def test_no_chord_is_diminished(scores: list[Score]):
    for score in scores:
        steps = MODES[score.mode]
        for chord in score.chords:
            fifth = (steps[(chord.root + 4) % 7] - steps[chord.root]) % 12
            assert fifth == 7


def test_chords_fill_the_piece_without_gaps(scores: list[Score]):
    for score in scores:
        ends = [chord.beat + chord.beats for chord in score.chords]
        assert [chord.beat for chord in score.chords[1:]] == pytest.approx(ends[:-1])
        assert ends[-1] == score.bars * QUARTERS_PER_BAR[score.metre]


def test_the_bass_plays_roots_and_fifths(scores: list[Score]):
    for score in scores:
        bass = measures.part_of(score, Role.BASS)
        for note in bass.notes if bass else ():
            chord = next(chord for chord in reversed(score.chords) if chord.beat <= note.beat)
            allowed = [(score.tonic + MODES[score.mode][(chord.root + step) % 7]) % 12 for step in (0, 4)]
            assert note.pitch % 12 in allowed


def test_the_contour_of_the_picture_shapes_the_melody():
    rising, falling = tuple(np.linspace(0, 1, 16).tolist()), tuple(np.linspace(1, 0, 16).tolist())

    def slope(contour: tuple[float, ...], seed: int) -> float:
        score = compose(dataclasses.replace(plan(seed=seed), contour=contour))
        motif = [note for note in score.parts[0].notes if note.beat < score.motif_beats + _first(score)]
        return motif[-1].pitch - motif[0].pitch

    def _first(score: Score) -> float:
        return score.parts[0].notes[0].beat

    up, down = ([slope(contour, seed) for seed in range(30)] for contour in (rising, falling))
    assert np.mean(up) > np.mean(down) + 3


def test_density_makes_more_notes():
    few, many = (
        sum(
            len(part.notes)
            for seed in range(10)
            for part in compose(dataclasses.replace(plan(seed=seed), density=density)).parts
        )
        for density in (0.1, 0.9)
    )
    assert many > 1.3 * few


def test_energy_grows_from_the_intro_to_the_last_return():
    made = dataclasses.replace(
        plan(arousal=0.5), form=tuple(FormSection(name, 4) for name in ("intro", "A", "A'", "B", "A''", "outro"))
    )
    score = compose(made)
    loud = {
        section.name: np.sum([
            note.velocity
            for part in score.parts
            for note in part.notes
            if section.first_bar <= bar_of(score, note.beat) < section.first_bar + section.bars
        ])
        for section in score.sections
    }  # fmt: skip
    assert loud["intro"] < loud["A"] < loud["A''"]
    assert loud["outro"] < loud["A''"]


def test_notes_are_played_near_their_time_but_not_on_it():
    score = compose(plan(arousal=0.5))
    quarter_s = 60 / score.quarter_bpm
    slow = (score.bars - 2) * QUARTERS_PER_BAR[score.metre]
    off = []
    for part in score.parts:
        assert len(part.notes) == len(part.played)
        written = sorted(note.beat * quarter_s for note in part.notes if note.beat < slow)
        played = sorted(note.start_s for note in part.played)[: len(written)]
        off += [late - due for late, due in zip(played, written, strict=True)]
    if "double bass" not in [part.instrument for part in score.parts]:
        assert np.max(np.abs(off)) <= 0.0085
    assert np.std(off) > 0.001


def test_the_end_slows_down_and_rings_until_the_end():
    for made in several_plans(20):
        score = compose(made)
        assert all(note.end_s <= score.duration_s for part in score.parts for note in part.played)
        last = max(note.end_s for part in score.parts for note in part.played)
        assert score.duration_s - 2.5 < last


def test_the_same_plan_gives_the_same_midi_and_other_pictures_another():
    assert midi_bytes(compose(plan(1))) == midi_bytes(compose(plan(1)))
    files = {midi_bytes(compose(each)) for each in several_plans(40)}
    assert len(files) == 40
    assert midi_bytes(compose(another_seed(plan(1), 1))) != midi_bytes(compose(plan(1)))


def test_midi_has_tempo_metre_key_and_programs():
    made = dataclasses.replace(
        plan(arousal=0.5),
        metre="6/8",
        tempo_bpm=60,
        form=(FormSection("A", 14),),
        key="D",
        mode="dorian",
        instruments=("flute", "harp", "double bass", "drums"),
    )
    read = pretty_midi.PrettyMIDI(io.BytesIO(midi_bytes(compose(made))))
    assert read.get_tempo_changes()[1].tolist() == pytest.approx([90.0], rel=1e-4)
    assert [(each.numerator, each.denominator) for each in read.time_signature_changes] == [(6, 8)]
    assert [each.key_number for each in read.key_signature_changes] == [0]  # D Dorian has the notes of C major
    programs = [(each.name, each.program, each.is_drum) for each in read.instruments]
    assert programs == [("flute", 73, False), ("harp", 46, False), ("double bass", 32, False), ("drums", 0, True)]
    assert read.get_end_time() <= made.duration_s + 0.01


@pytest.mark.parametrize("metre", ["4/4", "3/4", "6/8"])
@pytest.mark.parametrize("bars", [2, 3, 5, 9, 17, 40])
def test_every_metre_and_form_can_be_composed(metre: str, bars: int):
    form = (FormSection("A", bars),) if bars < 4 else (FormSection("A", bars - 1), FormSection("outro", 1))
    for mode in MODES:
        score = compose(dataclasses.replace(plan(), metre=metre, form=form, mode=mode, duration_s=60.0))
        assert score.bars == bars
        assert measures.scale_share(score) == 1.0


def test_a_plan_with_unknown_instruments_is_played_by_a_piano():
    score = compose(dataclasses.replace(plan(), instruments=("theremin",)))
    assert [part.instrument for part in score.parts] == ["piano"]


def test_euclidean_rhythms_are_even():
    assert "".join(".x"[hit] for hit in euclid(3, 8)) in ("x..x..x.", "x..x.x..", "x.x..x..")
    for steps in (8, 12, 16):
        for onsets in range(1, steps + 1):
            places = [place for place, hit in enumerate(euclid(onsets, steps)) if hit]
            assert len(places) == onsets
            gaps = {(later - earlier) % steps or steps for earlier, later in pairwise([*places, places[0]])}
            assert max(gaps) - min(gaps) <= 1


def test_voice_leading_keeps_common_tones():
    first = lead_voices((), [0, 4, 7])
    assert {pitch % 12 for pitch in first} == {0, 4, 7}
    second = lead_voices(first, [9, 0, 4])  # A minor has two tones of C major
    assert len(set(first) & set(second)) == 2


def test_degrees_and_key_signatures():
    assert [pitch_of(degree, 62, "dorian") for degree in range(-1, 8)] == [60, 62, 64, 65, 67, 69, 71, 72, 74]
    assert relative_major(2, "dorian") == relative_major(4, "phrygian") == relative_major(5, "lydian") == 0
    assert relative_major(9, "aeolian") == 0


def bar_of(score: Score, beat: float) -> int:
    """Return the number of a beat's bar."""
    return int(beat // QUARTERS_PER_BAR[score.metre])
