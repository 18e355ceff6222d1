"""Recordings of every format come out as the same clicks, at the same times; broken ones with an error."""

from __future__ import annotations

import io
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from serve_app.errors import AudioExtractionError
from serve_app.media import timeline
from serve_app.models.drums import audio_file
from serve_app.models.drums.audio_file import Recording, read_recording

CLICKS_S = [0.0, 0.25, 0.6, 1.1]
DURATION_S = 1.5


def clicks(rate_hz: int, amplitude: float = 0.5) -> np.ndarray:
    """Decaying 1 kHz bursts, (n,) float64."""
    time_s = np.arange(round(DURATION_S * rate_hz)) / rate_hz
    since_s = time_s[:, None] - np.array(CLICKS_S)
    bursts = np.where(since_s >= 0, np.exp(-np.maximum(since_s, 0) / 0.02) * np.cos(2 * np.pi * 1_000 * since_s), 0.0)
    return amplitude * bursts.sum(axis=1)


def samples_of(recording: Recording) -> np.ndarray:
    return np.concatenate(list(recording.blocks))


def onsets_s(samples: np.ndarray) -> list[float]:
    """Return where each burst is first as loud as a third of the loudest sample."""
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() / 3) / 44_100
    return [float(each) for index, each in enumerate(loud) if index == 0 or each - loud[index - 1] > 0.1]


def wav_header(
    num_channels: int, rate_hz: int, bits: int, num_bytes: int, *, is_float: bool = False, riff_bytes: int | None = None
) -> bytes:
    frame = num_channels * bits // 8
    form = struct.pack("<HHIIHH", 3 if is_float else 1, num_channels, rate_hz, rate_hz * frame, frame, bits)
    size = 36 + num_bytes if riff_bytes is None else riff_bytes
    return (
        b"RIFF"
        + struct.pack("<I", size)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", num_bytes)
    )


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000])
def test_wav_of_every_width(tmp_path: Path, subtype: str, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([clicks(rate_hz)] * 2, axis=1), rate_hz, subtype=subtype)
    recording = read_recording(tmp_path / "a.wav")
    samples = samples_of(recording)
    assert samples.dtype == np.float32
    assert recording.duration_s == pytest.approx(DURATION_S, abs=0.001)
    assert recording.num_frames == 150
    assert onsets_s(samples) == pytest.approx(CLICKS_S, abs=0.002)
    assert np.abs(samples).max() == pytest.approx(0.5, rel=0.1)
    assert recording.notes == ()


@pytest.mark.parametrize("rate_hz", [11_025, 12_000, 16_000, 22_050, 32_000, 48_000, 88_200, 96_000, 176_400, 37_123])
def test_every_rate(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", clicks(rate_hz), rate_hz)
    assert onsets_s(samples_of(read_recording(tmp_path / "a.wav"))) == pytest.approx(CLICKS_S, abs=0.002)


@pytest.mark.parametrize("num_channels", [1, 2, 3, 4, 6, 8, 9, 17])
def test_a_drum_on_any_one_channel_is_heard(tmp_path: Path, num_channels: int) -> None:
    for channel in {3 % num_channels, num_channels - 1}:
        channels = np.zeros((int(DURATION_S * 44_100), num_channels))
        channels[:, channel] = clicks(44_100)
        soundfile.write(tmp_path / "a.wav", channels, 44_100, subtype="PCM_16")
        recording = read_recording(tmp_path / "a.wav")
        assert onsets_s(samples_of(recording)) == pytest.approx(CLICKS_S, abs=0.001)
        assert not recording.is_silent


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.ogg", "libopus"), ("a.mkv", "aac")],
)
def test_other_containers(tmp_path: Path, name: str, codec: str) -> None:
    rate_hz = 48_000
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.repeat(clicks(rate_hz), 2).astype(np.float32)[np.newaxis], format="flt", layout="stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        resampler = av.AudioResampler(
            format=stream.codec_context.format.name, layout="stereo", rate=rate_hz, frame_size=stream.frame_size or 1024
        )
        for made in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    recording = read_recording(tmp_path / name)
    assert onsets_s(samples_of(recording)) == pytest.approx(CLICKS_S, abs=0.004)


def test_open_file_is_read_too() -> None:
    file = io.BytesIO()
    soundfile.write(file, clicks(44_100), 44_100, format="WAV")
    assert onsets_s(samples_of(read_recording(file))) == pytest.approx(CLICKS_S, abs=0.001)


def test_float_beyond_full_scale_is_not_clipped(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "a.wav", tmp_path / "b.wav"
    soundfile.write(quiet, clicks(44_100), 44_100, subtype="FLOAT")
    soundfile.write(loud, 30_000 * clicks(44_100), 44_100, subtype="FLOAT")  # integers that nobody divided
    expected, got = read_recording(quiet), read_recording(loud)
    assert got.gain == pytest.approx(expected.gain / 30_000, rel=0.06)
    np.testing.assert_allclose(samples_of(got), 30_000 * samples_of(expected), rtol=1e-4, atol=0.1)


def test_samples_that_are_not_numbers_become_silence_with_a_note(tmp_path: Path) -> None:
    samples = clicks(44_100)
    samples[20_000:20_100] = np.nan
    samples[20_100] = np.inf
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    recording = read_recording(tmp_path / "a.wav")
    got = samples_of(recording)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[20_000:20_101], 0.0, atol=1e-3)
    assert onsets_s(got) == pytest.approx(CLICKS_S, abs=0.001)
    assert recording.notes == ("Samples that are not numbers were replaced by silence",)


@pytest.mark.parametrize("offset", [0.0, 0.3, -1.0])
def test_silence_and_constant_offset(tmp_path: Path, offset: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(44_100, offset), 44_100)
    recording = read_recording(tmp_path / "a.wav")
    assert recording.is_silent
    assert recording.duration_s == 1.0
    assert list(recording.blocks) == []


@pytest.mark.parametrize("is_kept", [True, False])
def test_offset_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
    monkeypatch.setattr(audio_file, "_KEPT_S", 60.0 if is_kept else 0.0)
    soundfile.write(tmp_path / "a.wav", 0.4 * clicks(44_100) - 0.6, 44_100, subtype="FLOAT")
    samples = samples_of(read_recording(tmp_path / "a.wav"))
    assert abs(samples.mean()) < 1e-5
    np.testing.assert_allclose(samples, 0.4 * clicks(44_100), atol=2e-3)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000])
def test_one_sample(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.5]), rate_hz)
    recording = read_recording(tmp_path / "a.wav")
    assert recording.num_frames == 1
    assert 0 < recording.duration_s < 0.001
    assert recording.is_silent


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "The file is empty"),
        (wav_header(1, 44_100, 16, 0), "holds no sound"),
        (b"RIFF\x00\x00\x00\x00WAVE", "header is broken or missing"),
        (b"not a sound " * 100, "not media"),
        (b"<!doctype html><html>404</html>", "web page"),
        (wav_header(2, 0, 16, 4_000) + bytes(4_000), "not media|0 Hz"),
        (wav_header(200, 44_100, 16, 4_000) + bytes(4_000), "200 channels|not media"),
    ],
)
def test_what_is_no_sound_has_a_clear_error(content: bytes, detail: str) -> None:
    with pytest.raises(AudioExtractionError, match=detail):
        read_recording(io.BytesIO(content))


def test_cut_off_wav_gives_what_is_there_with_a_note(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", clicks(44_100), 44_100, subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    recording = read_recording(io.BytesIO(content[: len(content) // 2]))
    assert recording.duration_s == pytest.approx(DURATION_S / 2, abs=0.001)
    assert onsets_s(samples_of(recording)) == pytest.approx(CLICKS_S[:3], abs=0.001)
    assert "cut off" in recording.notes[0]


def test_wav_written_without_knowing_its_length() -> None:
    """As from a pipe: sizes of 0xFFFFFFFF."""
    data = np.round(clicks(44_100) * 32_767).astype("<i2").tobytes()
    header = wav_header(1, 44_100, 16, 0xFFFFFFFF, riff_bytes=0xFFFFFFFF)
    recording = read_recording(io.BytesIO(header + data))
    assert recording.duration_s == pytest.approx(DURATION_S, abs=0.001)
    assert recording.notes == ()


def test_too_long_is_refused_with_the_limit(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(44_100 * 3), 44_100)
    with pytest.raises(AudioExtractionError, match="longer than the limit of 0 minutes"):
        read_recording(tmp_path / "a.wav", max_duration_s=2.0)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        read_recording(tmp_path / "gone.wav")


def test_long_file_is_read_again_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal((44_100 * 90, 1)), 44_100, subtype="PCM_16")
    monkeypatch.setattr(audio_file, "_KEPT_S", 300.0)
    kept = read_recording(tmp_path / "a.wav")
    expected = samples_of(kept)
    monkeypatch.setattr(audio_file, "_KEPT_S", 1.0)
    monkeypatch.setattr(timeline, "BLOCK_VALUES", 1 << 16)
    tracemalloc.start()
    recording = read_recording(tmp_path / "a.wav")
    position = 0
    for block in recording.blocks:
        np.testing.assert_array_equal(block, expected[position : position + len(block)])
        position += len(block)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert position == len(expected)
    assert recording.gain == kept.gain
    assert peak_bytes < expected.nbytes / 5


def test_reader_can_give_up(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(44_100 * 60), 44_100)
    heard: list[float] = []

    def stop(read_s: float) -> None:
        heard.append(read_s)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        read_recording(tmp_path / "a.wav", on_block=stop)
    assert len(heard) == 1
    assert 0 < heard[0] < 60
