"""Frames with odd time stamps, one by one."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from serve_app.errors import AudioExtractionError
from serve_app.media.samples import SampleBuffer, SampleQueue
from serve_app.media.timeline import Timeline

RATE_HZ = 48_000


def frame(start_s: float | None, duration_s: float = 0.1, value: float = 0.5, layout: str = "mono") -> av.AudioFrame:
    size = int(duration_s * RATE_HZ) * av.AudioLayout(layout).nb_channels
    made = av.AudioFrame.from_ndarray(np.full((1, size), value, np.float32), format="flt", layout=layout)
    made.sample_rate = RATE_HZ
    if start_s is not None:
        made.pts, made.time_base = round(start_s * RATE_HZ), Fraction(1, RATE_HZ)
    return made


def lay(
    *frames: av.AudioFrame, origin_s: float | None = 0.0, expected_s: float | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    timeline = Timeline(100.0)
    timeline.start_section(origin_s, expected_s)
    for each in frames:
        timeline.add(each)
    return timeline.finish()


def sounding(samples: np.ndarray, at_s: float) -> bool:
    return bool(abs(samples[int(at_s * 16_000)]) > 0.4)


def test_small_jitter_is_not_a_gap() -> None:
    samples, notes = lay(*(frame(index * 0.1 + (0.02 if index % 2 else 0.0)) for index in range(20)))
    assert len(samples) == pytest.approx(2.0 * 16_000, abs=20)
    assert notes == ()


def test_gaps_become_silence_and_one_note() -> None:
    samples, notes = lay(frame(0.0), frame(1.0), frame(1.1), frame(2.0))
    assert len(samples) == pytest.approx(2.1 * 16_000, abs=20)
    assert [sounding(samples, at) for at in (0.05, 0.5, 1.05, 1.15, 1.6, 2.05)] == [
        True,
        False,
        True,
        True,
        False,
        True,
    ]
    assert notes == ("1.7 s of sound are missing in 2 places, the first at 0.1 s",)


def test_time_that_goes_back_is_taken_as_continuous() -> None:
    samples, notes = lay(frame(5.0), frame(5.1), frame(0.0), frame(0.1), origin_s=5.0)
    assert len(samples) == pytest.approx(0.4 * 16_000, abs=20)
    assert notes == ("The file's time stamps jump; they were taken as continuous",)


def test_jump_beyond_the_declared_end_adds_no_silence() -> None:
    samples, notes = lay(frame(0.0), frame(50.0), frame(50.1), expected_s=1.0)
    assert len(samples) == pytest.approx(0.3 * 16_000, abs=20)
    assert len(notes) == 1


def test_lead_before_the_start_of_the_file_is_dropped() -> None:
    samples, _ = lay(frame(-0.15, 0.1, value=-0.5), frame(-0.05, 0.1, value=-0.5), frame(0.05, 0.1, value=0.5))
    assert len(samples) == pytest.approx(0.15 * 16_000, abs=20)
    assert samples[100] == pytest.approx(-0.5, abs=0.01)
    assert samples[1200] == pytest.approx(0.5, abs=0.01)


def test_frames_without_time_follow_each_other() -> None:
    samples, notes = lay(frame(None), frame(None), origin_s=None)
    assert len(samples) == pytest.approx(0.2 * 16_000, abs=20)
    assert notes == ()


def test_layout_changes_between_frames() -> None:
    samples, notes = lay(frame(0.0), frame(0.1, layout="5.1"), frame(0.2, layout="7.1"), frame(0.3, layout="stereo"))
    assert len(samples) == pytest.approx(0.4 * 16_000, abs=40)
    for at in (0.05, 0.15, 0.25, 0.35):
        assert samples[int(at * 16_000)] == pytest.approx(0.5, abs=0.02)
    assert notes == ()


def test_buffer_grows_in_place_and_keeps_its_limit() -> None:
    buffer = SampleBuffer(limit=1000)
    buffer.expect(10)
    buffer.append(np.arange(8, dtype=np.float32))
    buffer.append_silence(100)
    buffer.append(np.ones(892, np.float32))
    with pytest.raises(AudioExtractionError, match="longer than the limit"):
        buffer.append_silence(1)
    samples = buffer.take()
    assert samples.shape == (1000,)
    np.testing.assert_array_equal(samples[:8], np.arange(8))
    assert not samples[8:108].any()
    assert samples[108:].all()


def test_streamed_timeline_is_taken_bit_by_bit_and_not_limited() -> None:
    timeline = Timeline(100.0, sample_rate_hz=RATE_HZ, streamed=True)
    taken: list[np.ndarray] = []
    for index in range(400):  # 40 s: more than one block
        timeline.add(frame(index * 0.1 if index < 300 else index * 0.1 + 0.5, value=1.5))
        taken += timeline.take()
    before_the_end = sum(map(len, taken))
    assert before_the_end > 20 * RATE_HZ
    assert timeline.end() == ("0.5 s of sound are missing at 30.0 s",)
    samples = np.concatenate([*taken, *timeline.take()])
    assert timeline.take() == []
    assert len(samples) == timeline.num_samples == round(40.5 * RATE_HZ)
    assert samples[0] == samples[-1] == 1.5
    assert not samples[round(30.1 * RATE_HZ) : round(30.4 * RATE_HZ)].any()


@pytest.mark.parametrize("num_samples", [1, 20, 40, 100])
def test_sound_shorter_than_the_resamplers_filter_keeps_its_length(num_samples: int) -> None:
    samples, _ = lay(frame(0.0, num_samples / RATE_HZ))
    assert len(samples) == pytest.approx(max(1, num_samples / 3), abs=1)
    assert len(samples) > 0


def test_weights_of_channels_can_be_chosen() -> None:
    timeline = Timeline(
        100.0, sample_rate_hz=RATE_HZ, weigh=lambda names: np.array([0.0, 2.0], np.float32), streamed=True
    )
    timeline.add(frame(0.0, layout="stereo"))
    timeline.end()
    assert np.concatenate(timeline.take()).max() == 1.0


def test_queue_gives_everything_once_and_keeps_its_limit() -> None:
    queue = SampleQueue(limit=5_000_000, sample_rate_hz=100)
    queue.append(np.ones(3, np.float32))
    queue.append_silence(4_000_000)  # without memory
    blocks = queue.take()
    assert sum(map(len, blocks)) == queue.num_samples == 4_000_003
    assert max(len(block) for block in blocks) <= 1 << 20
    assert not blocks[-1].any()
    assert queue.take() == []
    with pytest.raises(AudioExtractionError, match="longer than the limit of 833 minutes"):
        queue.append_silence(1_000_000)


class TestSilenceByTimeStamps:
    """Of a file of 10 000 bytes: 60 s, and 100 s for its bytes."""

    def _lay(self, *starts_s: float) -> tuple[float, tuple[str, ...]]:
        timeline = Timeline(4 * 3600.0, num_bytes=10_000)
        timeline.start_section(0.0, None)
        for start_s in starts_s:
            timeline.add(frame(start_s))
        samples, notes = timeline.finish()
        return len(samples) / 16_000, notes

    def test_a_late_start_is_kept_and_noted(self) -> None:
        duration_s, notes = self._lay(120.0, 120.1)
        assert duration_s == pytest.approx(120.2, abs=0.01)
        assert notes == ("The sound starts 120.0 s after the start of the file",)

    def test_a_start_after_hours_is_taken_as_the_start(self) -> None:
        duration_s, notes = self._lay(7000.0, 7000.1)
        assert duration_s == pytest.approx(0.2, abs=0.01)
        assert notes == ("The file's time stamps jump; they were taken as continuous",)

    def test_many_small_jumps_add_no_more_than_a_large_one(self) -> None:
        duration_s, notes = self._lay(*(index * 50.0 for index in range(100)))
        assert duration_s == pytest.approx(160 + 10, abs=11)
        assert "The file's time stamps jump; they were taken as continuous" in notes

    def test_jumps_there_and_back_add_no_more(self) -> None:
        duration_s, _ = self._lay(*(50.0 * (index % 2) for index in range(200)))
        assert duration_s < 160 + 21
