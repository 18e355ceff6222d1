"""Speech regions on made and real sound."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from serve_app.errors import ModelLoadingError
from serve_app.media.decode import decode_audio
from serve_app.models.speech import voice_activity
from serve_app.models.speech.voice_activity import detect_speech, speech_probabilities

SPEECH = Path(__file__).parents[4] / "../shared/data/speech"


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """Return 11 s of real speech with pauses."""
    path = SPEECH / "openai-whisper-jfk.flac"
    if not path.exists():
        pytest.skip(f"{path} is not here: real recordings lie beside the project")
    return decode_audio(str(path)).samples


@pytest.mark.parametrize("num_samples", [0, 1, 511, 512, 513, 160_000])
def test_silence_has_no_regions(num_samples: int) -> None:
    assert detect_speech(np.zeros(num_samples, np.float32)) == ()


def test_noise_and_tones_are_not_speech() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 10 * 16_000).astype(np.float32)
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(160_000) / 16_000)).astype(np.float32)
    for sound in (noise, tone):
        assert sum(region.end_s - region.start_s for region in detect_speech(sound)) < 0.5


def test_speech_is_found_where_it_was_put(spoken: np.ndarray) -> None:
    silence = np.zeros(5 * 16_000, np.float32)
    alone = detect_speech(spoken)
    placed = detect_speech(np.concatenate([silence, spoken, silence, spoken, silence]))
    assert placed[0].start_s == pytest.approx(5 + alone[0].start_s, abs=0.2)
    assert placed[-1].end_s == pytest.approx(5 + 11 + 5 + alone[-1].end_s, abs=0.2)
    assert not any(region.end_s > 16.3 and region.start_s < 20.7 for region in placed)
    for before, after in pairwise(placed):
        assert before.start_s < before.end_s < after.start_s


def test_blocks_give_what_the_library_gives_at_once(spoken: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.ascontiguousarray(spoken[: len(spoken) // 512 * 512])
    expected = np.asarray(get_vad_model()(whole.copy())).reshape(-1)
    monkeypatch.setattr(voice_activity, "_BLOCK_WINDOWS", 37)
    # the library blanks the end of the last window
    np.testing.assert_allclose(speech_probabilities(whole)[:-1], expected[:-1], atol=1e-4)
    assert expected.max() > 0.9


class Deaf:
    """Stands in for the network: no speech anywhere. What is measured is the memory of feeding it."""

    @property
    def session(self) -> Deaf:
        return self

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert inputs["input"].shape[1] == 576
        return np.zeros(len(inputs["input"]), np.float32), inputs["h"], inputs["c"]


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_activity, "get_vad_model", Deaf)
    samples = np.zeros(60 * 60 * 16_000, np.float32)
    tracemalloc.start()
    assert detect_speech(samples) == ()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 0.05 * samples.nbytes


def test_detector_that_is_missing_is_a_model_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise FileNotFoundError("silero_vad_v6.onnx")

    monkeypatch.setattr(voice_activity, "get_vad_model", missing)
    with pytest.raises(ModelLoadingError, match="FileNotFoundError"):
        detect_speech(np.zeros(16_000, np.float32))


def probabilities(*runs: tuple[float, float]) -> np.ndarray:
    """Return windows of (probability, seconds)."""
    return np.concatenate([np.full(round(seconds / 0.032), value, np.float32) for value, seconds in runs])


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(0.0, 3.2)], []),
        ([(0.0, 0.96), (0.9, 0.96), (0.0, 1.28)], [(0.86, 2.02)]),
        ([(0.0, 0.96), (0.9, 0.064), (0.0, 1.28)], []),  # too short to be a word
        ([(0.9, 0.96), (0.0, 0.16), (0.9, 0.96)], [(0.0, 2.08)]),  # a pause between words
        ([(0.9, 0.96), (0.0, 0.64), (0.9, 0.96)], [(0.0, 1.06), (1.5, 2.56)]),
        ([(0.9, 0.96), (0.4, 0.96), (0.0, 0.96)], [(0.0, 2.02)]),  # in doubt it goes on
        ([(0.4, 0.96), (0.9, 0.96)], [(0.86, 1.92)]),  # but does not begin
    ],
)
def test_thresholds(runs: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    windows = probabilities(*runs)
    found = voice_activity._regions(windows, len(windows) * 0.032)
    assert len(found) == len(expected)
    for region, (start_s, end_s) in zip(found, expected, strict=True):
        assert (region.start_s, region.end_s) == pytest.approx((start_s, end_s), abs=1e-6)


@pytest.mark.parametrize("dip_s", [16.0, 20.0, 26.0])
def test_speech_that_goes_on_is_cut_where_it_is_least_like_speech(dip_s: float) -> None:
    windows = probabilities((0.95, dip_s), (0.6, 0.16), (0.95, 45.0 - dip_s))
    found = voice_activity._regions(windows, len(windows) * 0.032)
    assert [found[0].start_s, found[-1].end_s] == [0.0, pytest.approx(len(windows) * 0.032)]
    assert dip_s - 0.05 <= found[0].end_s <= dip_s + 0.25
    for before, after in pairwise(found):
        assert before.end_s == after.start_s
    assert all(region.end_s - region.start_s <= voice_activity.MAX_SPEECH_S + 0.02 for region in found)


def test_a_dip_in_the_first_half_of_what_fits_makes_no_short_piece() -> None:
    windows = probabilities((0.95, 5.0), (0.6, 0.16), (0.95, 25.0))
    first, second = voice_activity._regions(windows, len(windows) * 0.032)
    assert first.end_s >= 14.0
    assert first.end_s == second.start_s


def test_one_window_is_no_dip() -> None:
    windows = probabilities((0.95, 45.0))
    windows[round(16 / 0.032)] = 0.6  # inside a consonant
    windows[round(22 / 0.032) : round(22 / 0.032) + 3] = 0.7
    found = voice_activity._regions(windows, len(windows) * 0.032)
    assert found[0].end_s == pytest.approx(22.05, abs=0.05)


def test_speech_of_half_a_minute_less_margins_is_one_region() -> None:
    windows = probabilities((0.0, 0.96), (0.95, 27.0), (0.0, 0.96))
    assert len(voice_activity._regions(windows, len(windows) * 0.032)) == 1


def test_hours_without_a_pause_are_cut_all_over() -> None:
    windows = np.random.default_rng(5).uniform(0.5, 1.0, 4 * 3600 * 31).astype(np.float32)
    found = voice_activity._regions(windows, len(windows) * 0.032)
    lengths_s = [region.end_s - region.start_s for region in found]
    assert sum(lengths_s) == pytest.approx(len(windows) * 0.032)
    assert max(lengths_s) <= voice_activity.MAX_SPEECH_S + 0.02
    assert min(lengths_s[:-1]) >= voice_activity.MAX_SPEECH_S / 2 - 0.02
