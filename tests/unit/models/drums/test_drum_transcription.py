"""From a file to its MIDI, with a network whose answers are known."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pretty_midi
import pytest
import soundfile
import torch

import serve_app
from serve_app.errors import AudioExtractionError, InvalidRequest, ModelLoadingError
from serve_app.models.drums import audio_file, checkpoint, transcription
from serve_app.models.drums.activations import cut_pieces, run_network
from serve_app.models.drums.checkpoint import save_checkpoint
from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.network import DrumNetwork, HyperParameters
from serve_app.models.drums.transcription import drum_wav_to_midi, transcribe_drums
from serve_app.results import Drum, DrumHit, DrumTranscript
from tests.unit.models.drums.synthetic_drums import loaded_drums, render, rock

LOADED = loaded_drums()
PLAYED = rock(120.0, 8, start_s=0.25)


def wav(samples: np.ndarray, rate_hz: int = 44_100, subtype: str = "PCM_16") -> io.BytesIO:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype=subtype)
    return file


def heard(file: Any, **options: Any) -> DrumTranscript:
    return transcribe_drums(file, LOADED, **options).transcript


def check_hits(hits: tuple[DrumHit, ...], played: list[tuple[float, str, float]], within_s: float = 0.025) -> None:
    for drum in Drum:
        expected = [time_s for time_s, name, _ in played if name == drum]
        np.testing.assert_allclose([hit.time_s for hit in hits if hit.drum == drum], expected, atol=within_s)


def hear_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "cut_pieces", partial(cut_pieces, piece_frames=1_000_000))


@pytest.fixture
def use_flux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcription, "load_checkpoint", lambda path, device: LOADED)


@pytest.mark.parametrize(
    ("rate_hz", "num_channels", "subtype"),
    [
        (44_100, 1, "PCM_16"),
        (44_100, 2, "PCM_U8"),
        (48_000, 2, "PCM_24"),
        (96_000, 1, "PCM_32"),
        (192_000, 2, "FLOAT"),
        (32_000, 8, "DOUBLE"),
    ],
)
def test_every_format_gives_the_same_hits(rate_hz: int, num_channels: int, subtype: str) -> None:
    sound = render(PLAYED, 5.0, rate_hz)
    transcript = heard(wav(np.stack([sound] * num_channels, axis=1), rate_hz, subtype))
    check_hits(transcript.hits, PLAYED)
    assert transcript.bpm == pytest.approx(120.0, rel=0.01)
    assert transcript.notes == ()


def test_eight_kilohertz_has_kick_and_snare() -> None:
    transcript = heard(wav(render(PLAYED, 5.0, 8_000), 8_000))
    played = [each for each in PLAYED if each[1] != "hihat"]
    check_hits(tuple(hit for hit in transcript.hits if hit.drum != Drum.HIHAT), played)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("faint", lambda sound: 1e-3 * sound),
        ("loud", lambda sound: 200.0 * sound),
        ("offset", lambda sound: 0.1 * sound + 0.8),
        ("inverted", lambda sound: -sound),
    ],
)
def test_level_offset_and_polarity_do_not_matter(name: str, change: Any) -> None:
    check_hits(heard(wav(change(render(PLAYED, 5.0)), subtype="FLOAT")).hits, PLAYED)


def test_clipped_recording() -> None:
    check_hits(heard(wav(np.clip(render(PLAYED, 5.0), -0.25, 0.25))).hits, PLAYED)


def test_samples_that_are_not_numbers_are_noted() -> None:
    sound = render(PLAYED, 5.0)
    sound[5_000:5_100] = np.nan
    transcript = heard(wav(sound, subtype="FLOAT"))
    check_hits(transcript.hits, PLAYED)
    assert transcript.notes == ("Samples that are not numbers were replaced by silence",)


@pytest.mark.parametrize("samples", [np.zeros(44_100), np.full(44_100, 0.5), np.array([0.9])])
def test_silence_has_a_transcript_that_says_so(samples: np.ndarray) -> None:
    transcript = heard(wav(samples))
    assert transcript.hits == ()
    assert transcript.bpm == 120.0
    assert transcript.duration_s == pytest.approx(len(samples) / 44_100)
    assert transcript.notes == (
        "The recording is silent",
        "There are no strokes to find a tempo from; 120 BPM is assumed",
    )
    assert heard(wav(samples), bpm_override=90).bpm == 90.0


def test_no_drums_in_a_tone() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 330.0 * np.arange(3 * 44_100) / 44_100) * np.hanning(3 * 44_100)
    transcript = heard(wav(tone))
    assert transcript.hits == ()
    assert transcript.notes[0] == "No kick, snare or hi-hat was detected"


def test_bpm_override_is_the_tempo_and_the_phase_is_found() -> None:
    transcript = heard(wav(render(PLAYED, 5.0)), bpm_override=60)
    assert transcript.bpm == 60.0
    offsets = [(hit.quantized_s - 0.25) % 0.25 for hit in transcript.hits]
    assert max(min(offset, 0.25 - offset) for offset in offsets) < 0.015


def test_softer_strokes_have_lower_velocities() -> None:
    amplitudes = [1.0, 0.5, 0.25, 1.0, 0.5, 0.25]
    played = [(0.5 + 0.5 * index, "snare", amplitude) for index, amplitude in enumerate(amplitudes)]
    velocities = [hit.velocity for hit in heard(wav(render(played, 4.0))).hits if hit.drum == Drum.SNARE]
    assert velocities[0] > velocities[1] + 15 > velocities[2] + 30
    assert velocities[3:] == pytest.approx(velocities[:3], abs=3)


def test_pieces_give_the_hits_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = rock(131.0, 330, start_s=0.4, jitter_s=0.01)
    soundfile.write(tmp_path / "long.wav", render(played, 155.0), 44_100)
    monkeypatch.setattr(audio_file, "_KEPT_S", 1.0)
    in_pieces = transcribe_drums(tmp_path / "long.wav", LOADED)
    hear_in_one_piece(monkeypatch)
    whole = transcribe_drums(tmp_path / "long.wav", LOADED)
    assert len(whole.transcript.hits) == len(played)
    assert in_pieces.transcript == whole.transcript


def test_pieces_give_the_hits_of_the_whole_with_any_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real network with random weights: what it says is noise, but the same noise."""
    torch.manual_seed(1)
    sizes = HyperParameters(conv_channels=(4, 6), width=24, block_width=16, gru_width=16)
    network = DrumNetwork(sizes)
    with torch.no_grad():
        network.strokes.weight *= 20.0
    save_checkpoint(tmp_path / "m.pt", network, thresholds=LOADED.thresholds, model_version="random", facts={})
    loaded = transcription.load_checkpoint(tmp_path / "m.pt")
    file = wav(render(rock(110.0, 140, jitter_s=0.02), 75.0))
    in_pieces = transcribe_drums(file, loaded)
    hear_in_one_piece(monkeypatch)
    whole = transcribe_drums(file, loaded)
    assert len(whole.transcript.hits) > 50
    assert [hit.drum for hit in in_pieces.transcript.hits] == [hit.drum for hit in whole.transcript.hits]
    np.testing.assert_allclose(
        [hit.time_s for hit in in_pieces.transcript.hits], [hit.time_s for hit in whole.transcript.hits], atol=1e-3
    )
    np.testing.assert_allclose(in_pieces.activations.probabilities, whole.activations.probabilities, atol=1e-2)


def test_the_network_keeps_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(*args: Any) -> Any:
        seen.append(torch.get_num_threads())
        return run_network(*args)

    monkeypatch.setattr(transcription, "run_network", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        transcribe_drums(wav(render(PLAYED, 4.5)), LOADED)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_progress_rises_to_one_and_may_give_up() -> None:
    file = wav(render(rock(100.0, 150), 90.0))
    shares: list[float] = []
    heard(file, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert len({share for share in shares if 0 < share < 1}) >= 1

    def stop(share: float) -> None:
        if share > 0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        heard(file, on_progress=stop)


def test_contract(tmp_path: Path, use_flux: None) -> None:
    soundfile.write(tmp_path / "test.wav", render(PLAYED, 5.0), 44_100, subtype="PCM_24")
    config = InferenceConfig()
    config.grid_division["kick"] = 16
    config.grid_division["snare"] = 16
    config.grid_division["hihat"] = 8
    config.thresholds["kick"] = 0.5
    config.thresholds["snare"] = 0.5
    config.thresholds["hihat"] = 0.15
    output_dir = tmp_path / "made" / "outputs"
    files = drum_wav_to_midi(
        wav_path=str(tmp_path / "test.wav"),
        model_path="model/best_model.pt",
        output_dir=f"{output_dir}/",
        config=config,
        bpm_override=120,
    )
    assert sorted(path.name for path in output_dir.iterdir()) == ["test.mid", "test.txt"]
    assert (files.midi, files.log, files.picture) == (output_dir / "test.mid", output_dir / "test.txt", None)
    file = pretty_midi.PrettyMIDI(str(files.midi))
    assert file.get_tempo_changes()[1][0] == 120.0
    [instrument] = file.instruments
    assert instrument.is_drum
    notes = sorted((note.start, note.pitch) for note in instrument.notes)
    expected = sorted((time_s, {"kick": 36, "snare": 38, "hihat": 42}[drum]) for time_s, drum, _ in PLAYED)
    assert len(notes) == len(expected) == len(files.transcript.hits)
    np.testing.assert_allclose([start for start, _ in notes], [time_s for time_s, _ in expected], atol=0.015)
    ticks = [round(note.start / 0.5 * 480 - notes[0][0] / 0.5 * 480) for note in instrument.notes if note.pitch == 42]
    assert all(tick % 240 == 0 for tick in ticks)  # eighths
    opened = mido.MidiFile(files.midi)
    assert {message.channel for message in opened.tracks[1] if message.type == "note_on"} == {9}
    log = files.log.read_text("utf-8")
    assert "# file: test.wav" in log
    assert len([line for line in log.splitlines() if not line.startswith("#")]) == len(PLAYED)


def test_played_times_on_request(tmp_path: Path, use_flux: None) -> None:
    played = [(0.25 + 0.5 * index + (0.03 if index % 2 else 0.0), "kick", 1.0) for index in range(8)]
    soundfile.write(tmp_path / "a.wav", render(played, 5.0), 44_100)
    config = InferenceConfig(grid_division={"kick": 4}, quantized_midi=False)
    files = drum_wav_to_midi(tmp_path / "a.wav", "m.pt", tmp_path, config, 120)
    [instrument] = pretty_midi.PrettyMIDI(str(files.midi)).instruments
    starts_s = [note.start for note in instrument.notes]
    np.testing.assert_allclose(starts_s, [hit.time_s for hit in files.transcript.hits], atol=0.0015)
    assert np.abs(np.array(starts_s) - [hit.quantized_s for hit in files.transcript.hits]).max() > 0.01


def test_picture_on_request(tmp_path: Path, use_flux: None) -> None:
    soundfile.write(tmp_path / "a.wav", render(PLAYED, 5.0), 44_100)
    files = drum_wav_to_midi(tmp_path / "a.wav", "m.pt", tmp_path / "out", plot=True)
    assert files.picture == tmp_path / "out" / "a.png"
    assert files.picture.read_bytes().startswith(b"\x89PNG")


def test_strokes_that_share_a_line_are_noted(tmp_path: Path, use_flux: None) -> None:
    played = [(0.25 + 0.5 * index + extra, "snare", 1.0) for index in range(6) for extra in (0.0, 0.09)]
    soundfile.write(tmp_path / "a.wav", render(played, 4.0), 44_100)
    config = InferenceConfig(grid_division={"snare": 4})
    files = drum_wav_to_midi(tmp_path / "a.wav", "m.pt", tmp_path, config, 120)
    assert len(files.transcript.hits) == 12
    assert len(pretty_midi.PrettyMIDI(str(files.midi)).instruments[0].notes) == 6
    assert files.transcript.notes == (
        "6 strokes fall on the same grid line as another of their drum; the MIDI file has the loudest of each line, "
        "a finer grid would separate them",
    )


def test_earlier_files_are_replaced_and_nothing_else_is_left(tmp_path: Path, use_flux: None) -> None:
    (tmp_path / "a.mid").write_bytes(b"old")
    soundfile.write(tmp_path / "a.wav", render(PLAYED, 3.0), 44_100)
    drum_wav_to_midi(tmp_path / "a.wav", "m.pt", tmp_path)
    assert (tmp_path / "a.mid").read_bytes().startswith(b"MThd")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mid", "a.txt", "a.wav"]


def test_what_is_wrong_is_said_before_any_work(tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    with pytest.raises(InvalidRequest, match="hihat"):
        drum_wav_to_midi(missing, "m.pt", tmp_path, InferenceConfig(thresholds={"hihat": 2.0}))
    with pytest.raises(InvalidRequest, match="bpm"):
        drum_wav_to_midi(missing, "m.pt", tmp_path, bpm_override=0)
    with pytest.raises(ModelLoadingError, match=r"m\.pt"):
        drum_wav_to_midi(missing, tmp_path / "m.pt", tmp_path)


@pytest.mark.parametrize(
    ("given", "has_gpu", "used"),
    [
        (None, True, "cuda"),
        (None, False, "cpu"),
        ("auto", True, "cuda"),
        ("cpu", True, "cpu"),
        ("cuda:0", True, "cuda:0"),
    ],
)
def test_the_device_is_the_callers_or_a_gpu_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, has_gpu: bool, used: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    monkeypatch.setattr("torch.cuda.device_count", lambda: int(has_gpu))
    asked: list[str] = []

    def load(path: object, device: torch.device) -> None:
        asked.append(str(device))
        raise ModelLoadingError("enough")

    monkeypatch.setattr("serve_app.models.drums.transcription.load_checkpoint", load)
    with pytest.raises(ModelLoadingError, match="enough"):
        drum_wav_to_midi(tmp_path / "a.wav", "m.pt", tmp_path, device=given)
    assert asked == [used]


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="cuda:63"):
        drum_wav_to_midi(tmp_path / "a.wav", "m.pt", tmp_path, device="cuda:63")


def test_what_is_no_sound_leaves_no_files(tmp_path: Path, use_flux: None) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioExtractionError):
        drum_wav_to_midi(tmp_path / "a.wav", "m.pt", tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        drum_wav_to_midi(tmp_path / "gone.wav", "m.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_package_offers_the_contracts_names() -> None:
    assert serve_app.drum_wav_to_midi is drum_wav_to_midi
    assert serve_app.InferenceConfig is InferenceConfig
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        serve_app.other  # noqa: B018
