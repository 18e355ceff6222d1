"""Files with more than their sound: what decoding them takes, measured in a process of its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.errors import AudioExtractionError
from serve_app.media.decode import decode_audio
from tests.unit.media.media_bombs import (
    encoded,
    flac_with_cover,
    matroska_with_video,
    mp3_with_covers,
    png,
    wav_of_channels,
)
from tests.unit.media.media_files import tone, write_media

_SIDE_PX = 6000  # 144 MB, decoded
_MEASURE = """
import json, sys
from serve_app.media.decode import decode_audio

def peak_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1000

decode_audio(sys.argv[1])
before = peak_mb()
found = {name: [decode_audio(name).duration_s, peak_mb() - before] for name in sys.argv[2:]}
print(json.dumps(found))
"""


def test_pictures_and_video_in_a_file_of_sound_are_not_decoded(tmp_path: Path) -> None:
    picture = png(_SIDE_PX)
    files = {
        "plain.mp3": encoded("mp3", "libmp3lame"),
        "covers.mp3": mp3_with_covers(picture, 3),
        "cover.flac": flac_with_cover(picture),
        "video.mkv": matroska_with_video(picture, _SIDE_PX),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURE, *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    for name, (duration_s, more_mb) in json.loads(ran.stdout).items():
        assert duration_s == pytest.approx(2.0, abs=0.1), name
        assert more_mb < 40, name


@pytest.mark.parametrize("num_channels", [65, 255, 4096, 65_535])
def test_thousands_of_channels_are_refused(num_channels: int) -> None:
    with pytest.raises(AudioExtractionError):
        decode_audio(io.BytesIO(wav_of_channels(num_channels)))


@pytest.mark.parametrize("name", ["jump.ts", "jump.mkv", "jump.ogg"])
def test_a_jump_of_hours_in_a_small_file_adds_no_silence(tmp_path: Path, name: str) -> None:
    codec = "libopus" if name.endswith("ogg") else "aac"
    path = write_media(tmp_path / name, tone(4.0, 48_000)[None], 48_000, codec=codec, gap_at_s=2.0, gap_s=3 * 3600.0)
    decoded = decode_audio(str(path))
    assert decoded.duration_s < 10
    assert "The file's time stamps jump; they were taken as continuous" in decoded.notes


def test_more_sound_than_the_bytes_allow_is_refused() -> None:
    data = encoded("wav", "pcm_s16le")
    with pytest.raises(AudioExtractionError, match="bytes for more than"):
        decode_audio(io.BytesIO(_silent_flac(num_frames=150)))
    assert decode_audio(io.BytesIO(data)).duration_s == pytest.approx(2.0)


def _silent_flac(num_frames: int) -> bytes:
    """Return FLAC of frames of 65 535 equal samples at 8 kHz: 8 s in 15 bytes."""
    import av
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        stream.codec_context.options = {"frame_size": "65535"}
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 65_535), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for index in range(num_frames):
            frame.pts = index * 65_535
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
