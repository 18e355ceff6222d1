"""Choices as the contract writes them, and wrong ones."""

from typing import Any

import numpy as np
import pytest

from serve_app.errors import InvalidRequest
from serve_app.models.drums.config import InferenceConfig, checked_bpm
from serve_app.results import Drum

TUNED = {"kick": 0.41, "snare": 0.42, "hihat": 0.43, "tom": 0.44}


def test_contract() -> None:
    config = InferenceConfig()
    config.grid_division["kick"] = 16
    config.grid_division["snare"] = 16
    config.grid_division["hihat"] = 8
    config.thresholds["kick"] = 0.5
    config.thresholds["snare"] = 0.5
    config.thresholds["hihat"] = 0.15
    assert [config.division_of(drum) for drum in Drum] == [16, 16, 8]
    assert [config.threshold_of(drum, TUNED) for drum in Drum] == [0.5, 0.5, 0.15]


def test_what_is_left_out_is_sixteenths_and_the_tuned_threshold() -> None:
    for config in (InferenceConfig(), InferenceConfig(grid_division={}, thresholds={})):
        assert [config.division_of(drum) for drum in Drum] == [16, 16, 16]
        assert [config.threshold_of(drum, TUNED) for drum in Drum] == [0.41, 0.42, 0.43]


def test_two_configs_share_nothing() -> None:
    InferenceConfig().grid_division["kick"] = 4
    assert InferenceConfig().grid_division["kick"] == 16


@pytest.mark.parametrize("none", [None, 0])
def test_no_grid(none: int | None) -> None:
    assert InferenceConfig(grid_division={"snare": none}).division_of(Drum.SNARE) is None


def test_numpy_numbers_are_numbers() -> None:
    config = InferenceConfig(
        grid_division={"kick": np.int64(12)},  # type: ignore[dict-item]
        thresholds={"kick": np.float32(0.25)},  # type: ignore[dict-item]
    )
    assert config.division_of(Drum.KICK) == 12
    assert config.threshold_of(Drum.KICK, TUNED) == 0.25


@pytest.mark.parametrize("wrong", [-1, 193, 16.0, "16", True])
def test_wrong_division_is_named(wrong: Any) -> None:
    config = InferenceConfig()
    config.grid_division["hihat"] = wrong
    with pytest.raises(InvalidRequest, match=r"grid_division\['hihat'\] must be a whole number from 1 to 192"):
        config.check()


@pytest.mark.parametrize("wrong", [0, 1.0, -0.1, float("nan"), "0.5", True])
def test_wrong_threshold_is_named(wrong: Any) -> None:
    config = InferenceConfig()
    config.thresholds["kick"] = wrong
    with pytest.raises(InvalidRequest, match=r"thresholds\['kick'\] must lie between 0 and 1"):
        config.check()


@pytest.mark.parametrize("field", ["grid_division", "thresholds"])
def test_unknown_drum_is_named(field: str) -> None:
    config = InferenceConfig(**{field: {"hi-hat": 0.5}})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=f"{field} has no drum 'hi-hat'; the drums are kick, snare, hihat"):
        config.check()


def test_bpm() -> None:
    assert checked_bpm(None) is None
    assert checked_bpm(120) == 120.0
    for wrong in (0, 19.9, 401, float("inf"), float("nan"), "120", True):
        with pytest.raises(InvalidRequest, match="bpm must be a number from 20 to 400"):
            checked_bpm(wrong)
