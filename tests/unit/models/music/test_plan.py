"""Plans: from caption and measurements to key, tempo, form, instruments and words."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from serve_app.messages import Locale
from serve_app.models.music.instruments import INSTRUMENTS, Role, named_instruments, roles_of
from serve_app.models.music.plan import another_seed, make_plan
from serve_app.models.music.plan_rules import BEATS_PER_BAR
from serve_app.models.music.plan_words import plan_sentence
from serve_app.models.music.scales import MODES
from serve_app.results import MusicPlan
from tests.unit.models.music.plans import caption, features, plan, several_plans, sha256_of

SEEDS = range(40)


def _mean_mode(plans: list[MusicPlan]) -> float:
    return float(np.mean([list(MODES).index(each.mode) for each in plans]))


def test_the_same_arguments_give_the_same_plan_and_others_another():
    assert plan(3, seed=5) == plan(3, seed=5)
    different = {
        dataclasses.replace(each, seed=0, picture_sha256="")
        for each in (plan(3, seed=5), plan(4, seed=5), plan(3, seed=6))
    }
    assert len(different) == 3


def test_valence_makes_the_mode_brighter():
    by_valence = [_mean_mode([plan(valence=valence, seed=seed) for seed in SEEDS]) for valence in (-0.9, 0.0, 0.9)]
    assert by_valence[0] > 4.5
    assert by_valence[1] == pytest.approx(3.0, abs=0.4)
    assert by_valence[2] < 0.8


def test_arousal_makes_the_tempo_faster_and_brings_drums():
    calm, excited = ([plan(arousal=arousal, seed=seed) for seed in SEEDS] for arousal in (-0.9, 0.9))
    quarters = {"4/4": 1.0, "3/4": 1.0, "6/8": 1.5}
    slow, fast = (np.mean([each.tempo_bpm * quarters[each.metre] for each in plans]) for plans in (calm, excited))
    assert slow < 75
    assert fast > 115
    assert not any("drums" in each.instruments for each in calm)
    assert all("drums" in each.instruments for each in excited)
    assert np.mean([each.density for each in excited]) > np.mean([each.density for each in calm]) + 0.2


def test_edges_make_the_music_denser():
    few, many = (
        make_plan(caption(0, 0), features(edges=edges), sha256_of(1), duration_s=30, seed=1) for edges in (0.01, 0.4)
    )
    assert many.density > few.density + 0.15


def test_all_keys_occur_and_warm_pictures_lean_to_sharp_keys():
    sharps = ("G", "D", "A", "E")
    keys = {
        warmth: [
            make_plan(
                caption(0, 0), features(warmth=warmth, brightness=0.5 + warmth / 3), sha256_of(picture),
                duration_s=30, seed=1,
            ).key
            for picture in range(200)
        ]
        for warmth in (-1.0, 0.0, 1.0)
    }  # fmt: skip
    assert len(set(keys[0.0])) == 12
    assert sum(key in sharps for key in keys[1.0]) > 1.5 * sum(key in sharps for key in keys[-1.0])


@pytest.mark.parametrize("duration_s", [5, 5.5, 7, 10, 15, 29.9, 60, 90, 120])
@pytest.mark.parametrize("arousal", [-1.0, -0.4, 0.3, 1.0])
def test_the_bars_fill_the_asked_length_less_than_a_bar_short(duration_s: float, arousal: float):
    for seed in range(8):
        made = plan(arousal=arousal, duration_s=duration_s, seed=seed)
        bar_s = BEATS_PER_BAR[made.metre] * 60 / made.tempo_bpm
        bars = sum(section.bars for section in made.form)
        assert bars >= 2
        assert 0 <= made.duration_s - bars * bar_s < bar_s
        assert made.duration_s == duration_s


def test_a_length_out_of_bounds_is_cut():
    assert plan(duration_s=1).duration_s == 5
    assert plan(duration_s=1000).duration_s == 120


def test_a_short_piece_is_one_phrase_and_a_long_one_has_a_contrast():
    assert [section.name for section in plan(duration_s=5).form] == ["A"]
    for arousal in (-0.5, 0.5):
        names = [section.name for section in plan(arousal=arousal, duration_s=60).form]
        assert [name for name in names if name in ("A", "A'", "B", "A''")][:3] == ["A", "A'", "B"]
        assert "A''" in names


@pytest.mark.parametrize(
    ("prompt", "towards"),
    [("happy and energetic", (1, 1)), ("calm, peaceful", (1, -1)), ("슬픈 음악", (-1, 0)), ("신나는 음악", (1, 1))],
)
def test_the_prompt_shifts_the_feeling(prompt: str, towards: tuple[int, int]):
    plain, shifted = plan(valence=0.0, arousal=0.0), plan(valence=0.0, arousal=0.0, prompt=prompt)
    for sign, before, after in zip(
        towards, (plain.valence, plain.arousal), (shifted.valence, shifted.arousal), strict=True
    ):
        assert sign == 0 or sign * (after - before) > 0.1


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("solo cello please", "cello"),
        ("with Acoustic Guitars", "acoustic guitar"),
        ("electric piano ballad", "electric piano"),
        ("가야금 연주로", "gayageum"),
        ("첼로로 연주해 줘", "cello"),
    ],
)
def test_the_prompt_names_instruments(prompt: str, named: str):
    assert all(named in plan(seed=seed, prompt=prompt).instruments for seed in range(10))


def test_the_prompt_rules_instruments_out():
    for prompt in ("rock, no drums", "without drums", "드럼 없이"):
        assert all("drums" not in plan(arousal=0.9, seed=seed, prompt=prompt).instruments for seed in range(10))
    assert all("drums" in plan(arousal=0.9, seed=seed, prompt="rock").instruments for seed in range(10))


def test_an_electric_piano_is_no_piano_and_a_harpsichord_no_harp():
    assert named_instruments(["Electric piano"]) == (("electric piano",), frozenset())
    assert named_instruments(["a harpsichord, a celloist"]) == ((), frozenset())


def test_the_caption_makes_instruments_likely():
    def times(instruments: tuple[str, ...]) -> int:
        plans = (
            make_plan(caption(0.2, 0.0, instruments=instruments), features(), sha256_of(1), duration_s=30, seed=seed)
            for seed in range(60)
        )
        return sum("marimba" in made.instruments for made in plans)

    assert times(("soft marimba",)) > 1.5 * times(()) + 5


def test_every_plan_has_a_lead_and_no_instrument_twice():
    for made in several_plans(60):
        assert Role.LEAD in roles_of(made.instruments)
        assert len(set(made.instruments)) == len(made.instruments)
        assert set(made.instruments) <= set(INSTRUMENTS)
        assert len(roles_of(made.instruments)) == len(made.instruments)


def test_the_prompt_for_models_says_what_the_plan_says():
    for made in several_plans(30):
        assert len(made.prompt_en) <= 300
        assert f"{made.tempo_bpm} bpm" in made.prompt_en
        assert made.prompt_en.endswith("instrumental, no vocals")
        assert all(name in made.prompt_en for name in made.instruments[:4])


def test_a_callers_words_land_in_the_prompt_alone_cleaned_and_cut():
    made = plan(prompt="rainy\x00 night\n\u202e drive " + "x" * 5000)
    assert "rainy night drive xxx" in made.prompt_en
    assert len(made.prompt_en) <= 300
    assert made.prompt_en.endswith("no vocals")
    assert made.prompt_en.isprintable()


def test_untrusted_mood_words_are_dropped():
    words = ("calm", "{tempo: 999}", "x" * 400)
    made = make_plan(
        dataclasses.replace(caption(0, 0), mood_words=words), features(), sha256_of(1), duration_s=30, seed=1
    )
    assert "calm" in made.prompt_en
    assert "{" not in made.prompt_en
    assert len(made.prompt_en) <= 300


def test_another_seed_keeps_all_but_the_seed():
    made = plan()
    seeds = [another_seed(made, n).seed for n in range(5)]
    assert len({made.seed, *seeds}) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert another_seed(made, 2) == another_seed(made, 2)
    assert dataclasses.replace(another_seed(made, 1), seed=made.seed) == made


def test_the_sentence_names_key_tempo_and_instruments():
    made = dataclasses.replace(plan(), key="D", mode="dorian", tempo_bpm=84, instruments=("piano", "strings", "drums"))
    assert plan_sentence(made, Locale.EN) == "D Dorian, 84 bpm, piano, strings and drums"
    assert plan_sentence(made, Locale.KO) == "D 도리안, 84 BPM, 피아노, 현악기, 드럼"
    assert plan_sentence(dataclasses.replace(made, mode="aeolian", instruments=("piano",)), Locale.EN) == (
        "D minor, 84 bpm, piano"
    )


def test_a_contour_of_any_length_has_16_values_in_bounds():
    for contour in ((), (0.3,), (2.0, -1.0), tuple(np.linspace(0, 1, 64).tolist())):
        made = make_plan(caption(0, 0), features(contour=contour), sha256_of(1), duration_s=30, seed=1)
        assert len(made.contour) == 16
        assert all(0 <= value <= 1 for value in made.contour)


def test_every_instrument_has_a_korean_name() -> None:
    for name, instrument in INSTRUMENTS.items():
        assert re.fullmatch("[가-힣 ]+", instrument.korean), name
