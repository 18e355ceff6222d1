"""Files with several audio tracks: which one is read, and what is said about the others."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from serve_app.errors import AudioExtractionError
from serve_app.media.caged_audio import CagedAudioStream, decode_caged
from serve_app.media.decode import AudioStream, decode_audio
from serve_app.sentences import Locale, translated
from tests.unit.media.media_files import tone, wav, write_tracks

SILENCE = np.zeros(32_000, np.float32)
HISS = np.random.default_rng(0).normal(0, 2e-5, 32_000).astype(np.float32)
LOW, HIGH = tone(2.0, hz=300.0), tone(2.0, hz=700.0)


def pitch(samples: np.ndarray) -> int:
    return round(int(np.argmax(np.abs(np.fft.rfft(samples[:16_000])))), -1)


@pytest.mark.parametrize(
    ("sounds", "default", "taken"),
    [
        ((LOW, HIGH), None, 300),
        ((LOW, HIGH), 1, 700),
        ((SILENCE, HIGH), 0, 700),
        ((HISS, SILENCE, HIGH), None, 700),
        ((LOW, SILENCE), 1, 300),
        ((np.concatenate([SILENCE, LOW]), HIGH), 0, 0),  # sound that comes late is sound
        ((SILENCE[:0], HIGH), 0, 700),  # a track without a packet
    ],
)
def test_the_default_track_is_taken_unless_it_is_silent(
    tmp_path: Path, sounds: tuple[np.ndarray, ...], default: int | None, taken: int
) -> None:
    audio = decode_audio(str(write_tracks(tmp_path / "a.mkv", *sounds, default=default)))
    assert pitch(audio.samples) == taken
    assert audio.notes[0].startswith(f"The file has {len(sounds)} audio tracks: 0 (1 channel); 1 (1 channel)")


def test_all_silent_is_the_default_one_and_no_error(tmp_path: Path) -> None:
    audio = decode_audio(str(write_tracks(tmp_path / "a.mkv", SILENCE, SILENCE, default=1)))
    assert not audio.samples.any()
    assert "track 1 was taken" in audio.notes[0]


def test_a_track_can_be_chosen(tmp_path: Path) -> None:
    path = str(write_tracks(tmp_path / "a.mkv", LOW, HIGH, SILENCE, default=0))
    for track, hz in ((0, 300), (1, 700), (2, 0)):
        for audio in (decode_audio(path, audio_track=track), decode_caged(path, max_duration_s=9.0, audio_track=track)):
            assert (pitch(audio.samples), audio.notes) == (hz, ())
        stream = AudioStream(path, sample_rate_hz=16_000, max_duration_s=9.0, audio_track=track)
        caged = CagedAudioStream(path, sample_rate_hz=16_000, max_duration_s=9.0, audio_track=track)
        assert pitch(np.concatenate(list(stream))) == pitch(np.concatenate(list(caged))) == hz


def test_tracks_are_named_by_language_and_title_in_the_callers_language(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", LOW, HIGH, default=0, kor="감독 \x1b[31m해설", eng="x" * 100)
    [note] = decode_caged(str(path), max_duration_s=9.0).notes
    known = f"0, kor, 감독 [31m해설 (1 channel); 1, eng, {'x' * 40} (1 channel)"
    rest = "track 0 was taken, and audio_track selects another"
    assert note == f"The file has 2 audio tracks: {known}; {rest}"
    korean = "파일에 오디오 트랙이 2개 있습니다: 0, kor, 감독 [31m해설 (채널 1개); 1, eng"
    assert translated(note, Locale.KO).startswith(korean)


@pytest.mark.parametrize("track", [2, 9, 255])
def test_a_track_that_is_not_there_lists_those_that_are(tmp_path: Path, track: int) -> None:
    path = str(write_tracks(tmp_path / "a.mkv", LOW, HIGH, kor="말", eng="talk"))
    for decode in (
        decode_audio,
        lambda source, audio_track: decode_caged(source, max_duration_s=9.0, audio_track=audio_track),
    ):
        with pytest.raises(AudioExtractionError) as raised:
            decode(path, audio_track=track)  # type: ignore[operator]
        known = "it has 0, kor, 말 (1 channel); 1, eng, talk (1 channel)"
        assert raised.value.detail == f"The file has no audio track {track}; {known}"
        assert "있는 트랙: 0, kor, 말 (채널 1개)" in translated(raised.value.detail, Locale.KO)


def test_one_track_is_no_choice() -> None:
    audio = decode_audio(io.BytesIO(wav(SILENCE)), audio_track=0)
    assert (audio.duration_s, audio.notes) == (2.0, ())
    with pytest.raises(AudioExtractionError, match="no audio track 1; it has 0"):
        decode_audio(io.BytesIO(wav(LOW)), audio_track=1)


def test_a_silent_track_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.media.audio_tracks._PROBED_S", 1.0)
    late = np.concatenate([np.zeros(60 * 16_000, np.float32), HIGH])
    audio = decode_audio(str(write_tracks(tmp_path / "a.mkv", np.zeros_like(late), late, default=0)))
    assert "track 0 was taken" in audio.notes[0]
