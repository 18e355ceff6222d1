"""Networks of other makers: built here in plain torch, saved, and compared with their own forward."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from torch.nn import functional

from serve_app.errors import ModelLoadingError
from serve_app.models.drums.activations import run_network
from serve_app.models.drums.audio_file import read_recording
from serve_app.models.drums.checkpoint import LoadedDrums, load_checkpoint
from serve_app.models.drums.transcription import drum_wav_to_midi, transcribe_drums
from serve_app.sentences import Locale, translated
from tests.unit.models.drums.synthetic_drums import render, rock

BANDS = 40
SETTINGS = {
    "sample_rate": 44_100,
    "n_fft": 1024,
    "hop_length": 512,
    "n_mels": BANDS,
    "fmin": 20.0,
    "fmax": 16_000.0,
    "log": "db",
    "labels": ["kick", "snare", "hihat"],
}


class BiGru(nn.Module):
    """(batch, frames, bands) to logits; one recurrent layer or several of any kind."""

    def __init__(
        self, kind: type[nn.RNNBase] = nn.GRU, *, layers: int = 1, both: bool = True, outputs: int = 3
    ) -> None:
        super().__init__()
        self.rnn = kind(BANDS, 12, num_layers=layers, batch_first=True, bidirectional=both)
        self.fc = nn.Linear(24 if both else 12, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0])


class Crnn(nn.Module):
    """2-D convolutions, each pooled by 2 over the bands, then a GRU."""

    def __init__(self, *, norm: bool, bands_first: bool = False, reduce: str = "flatten") -> None:
        super().__init__()
        self.bands_first, self.reduce = bands_first, reduce
        self.conv_a = nn.Conv2d(1, 6, 3, padding=1, bias=not norm)
        self.bn_a = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.conv_b = nn.Conv2d(6, 8, (5, 3), padding=(2, 1))
        self.bn_b = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.temporal = nn.GRU(
            8 * (BANDS // 4 if reduce == "flatten" else 1), 10, 2, batch_first=True, bidirectional=True
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(1)
        x = x.transpose(2, 3) if self.bands_first else x
        pool = (2, 1) if self.bands_first else (1, 2)
        x = functional.max_pool2d(functional.relu(self.bn_a(self.conv_a(x))), pool)
        x = functional.max_pool2d(functional.relu(self.bn_b(self.conv_b(x))), pool)
        x = x.transpose(2, 3) if self.bands_first else x  # (batch, channels, frames, bands)
        if self.reduce == "mean":
            x = x.mean(3).transpose(1, 2)
        else:
            x = x.permute(0, 2, 1, 3).reshape(len(x), x.shape[2], -1)
        return self.head(self.temporal(x)[0])


class Temporal(nn.Module):
    """1-D convolutions over time with batch norms that are defined after them all, and a head of width 1."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(BANDS, 16, 5, padding=2), nn.Conv1d(16, 16, 3, padding=1)
        self.norm_a, self.norm_b = nn.BatchNorm1d(16), nn.BatchNorm1d(16)
        self.out = nn.Conv1d(16, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm_a(self.a(x.transpose(1, 2))))
        return self.out(functional.relu(self.norm_b(self.b(x)))).transpose(1, 2)


class Normed(nn.Module):
    """A batch norm over the bands, a fully connected layer, and a one-way LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm1d(BANDS)
        self.enter = nn.Linear(BANDS, 20)
        self.lstm = nn.LSTM(20, 14, batch_first=True)
        self.leave = nn.Linear(14, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.input_norm(x.transpose(1, 2)).transpose(1, 2)
        return self.leave(self.lstm(functional.relu(self.enter(x)))[0])


def grown(network: nn.Module) -> nn.Module:
    """Return a network with weights that matter, and statistics that batch norms do not begin with."""
    torch.manual_seed(7)
    with torch.no_grad():
        for value in network.parameters():
            value.uniform_(-0.4, 0.4)
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.uniform_(-20.0, 20.0)
            elif name.endswith("running_var"):
                value.uniform_(50.0, 200.0)
    return network.eval()


def written(folder: Path, content: Any, settings: dict[str, Any] | None = None) -> Path:
    path = folder / "best_model.pt"
    torch.save(content, path)
    if settings is not None:
        path.with_suffix(".json").write_text(json.dumps(settings), "utf-8")
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wav") / "loop.wav"
    soundfile.write(path, render(rock(120.0, 8, start_s=0.25), 4.2), 44_100, subtype="FLOAT")
    return path


def activations(loaded: LoadedDrums, recording: Path) -> np.ndarray:
    """Return the logits of a recording, which is one piece."""
    [piece] = loaded.pieces(read_recording(recording))
    [output] = run_network(loaded.network, [piece.bands])
    assert piece.keep == slice(0, len(piece.bands))
    return np.log(output.probabilities / (1 - output.probabilities))


def log_mel(recording: Path) -> torch.Tensor:
    """Return the bands of `SETTINGS` as librosa alone computes them, (1, frames, bands)."""
    sound, _ = librosa.load(recording, sr=44_100, dtype=np.float64)
    sound = sound - sound.mean()
    mel = librosa.feature.melspectrogram(
        y=sound.astype(np.float32), sr=44_100, n_fft=1024, hop_length=512, n_mels=BANDS, fmin=20.0, fmax=16_000.0
    )
    return torch.from_numpy(librosa.power_to_db(mel).T.astype(np.float32))[None]


@pytest.mark.parametrize(
    ("network", "more"),
    [
        (BiGru(), {}),
        (BiGru(layers=3), {}),
        (BiGru(nn.LSTM, layers=2), {}),
        (BiGru(both=False), {}),
        (Crnn(norm=True), {}),
        (Crnn(norm=False), {}),
        (Crnn(norm=True, bands_first=True), {"layout": "bands,time"}),
        (Crnn(norm=True, reduce="mean"), {"reduce": "mean", "pool": [2, 2]}),
        (Temporal(), {}),
        (Normed(), {}),
    ],
    ids=["gru", "gru3", "lstm2", "one way", "crnn", "without norm", "bands first", "mean", "conv1d", "normed"],
)
def test_activations_are_those_of_the_modules_own_forward(
    network: nn.Module, more: dict[str, Any], tmp_path: Path, recording: Path
) -> None:
    network = grown(network)
    loaded = load_checkpoint(written(tmp_path, network.state_dict(), SETTINGS | more))
    with torch.inference_mode():
        expected = torch.sigmoid(network(log_mel(recording))[0]).numpy()
    found = activations(loaded, recording)
    assert expected.std() > 0.01  # the input matters
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), expected, atol=1e-4)


WRAPPINGS = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best": np.float64(0.5)},
    "model_state_dict": lambda state: {"optimizer_state_dict": {"state": {}}, "model_state_dict": state},
    "model": lambda state: {"model": state, "args": {"lr": 1e-3}},
    "parallel": lambda state: OrderedDict((f"module.{name}", value) for name, value in state.items()),
    "compiled": lambda state: {"model": {f"_orig_mod.{name}": value for name, value in state.items()}},
    "lightning": lambda state: {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"net.{name}": value for name, value in state.items()},
        "hyper_parameters": {"lr": 0.001},
        "callbacks": {},
    },
    "half": lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_whatever_the_state_dict_is_wrapped_in(wrapping: str, tmp_path: Path, recording: Path) -> None:
    network = grown(Crnn(norm=True))
    loaded = load_checkpoint(written(tmp_path, WRAPPINGS[wrapping](network.state_dict()), SETTINGS))
    with torch.inference_mode():
        expected = torch.sigmoid(network(log_mel(recording))[0]).numpy()
    found = 1 / (1 + np.exp(-activations(loaded, recording)))
    np.testing.assert_allclose(found, expected, atol=0.02 if wrapping == "half" else 1e-4)


FRONT_ENDS: dict[str, tuple[dict[str, Any], Any]] = {
    "loudest": ({"ref": "max"}, lambda mel: librosa.power_to_db(mel, ref=np.max)),
    "no floor": ({"top_db": None}, lambda mel: librosa.power_to_db(mel, top_db=None)),
    "log": ({"log": "log", "eps": 1e-6}, lambda mel: np.log(mel + 1e-6)),
    "log1p": ({"log": "log1p"}, np.log1p),
    "log10": ({"log": "log10", "eps": 1e-5}, lambda mel: np.log10(mel + 1e-5)),
    "normalised": ({"mean": -40.0, "std": 20.0}, lambda mel: (librosa.power_to_db(mel) + 40.0) / 20.0),
}


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_bands_are_librosas(name: str, tmp_path: Path, recording: Path) -> None:
    more, scaled = FRONT_ENDS[name]
    loaded = load_checkpoint(written(tmp_path, grown(BiGru()).state_dict(), SETTINGS | more))
    [piece] = loaded.pieces(read_recording(recording))
    sound, _ = librosa.load(recording, sr=44_100)
    mel = librosa.feature.melspectrogram(
        y=sound - sound.mean(), sr=44_100, n_fft=1024, hop_length=512, n_mels=BANDS, fmin=20.0, fmax=16_000.0
    )
    np.testing.assert_allclose(piece.bands, scaled(mel).T, atol=2e-3)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 48_000])
def test_at_another_sample_rate(rate_hz: int, tmp_path: Path) -> None:
    """Clicks come in the same frames as where the file has that rate itself."""
    sound = np.zeros(4 * 44_100, dtype=np.float32)
    sound[44_100::22_050] = 0.9
    soundfile.write(tmp_path / "clicks.wav", sound, 44_100)
    hop = rate_hz // 100
    settings = SETTINGS | {"sample_rate": rate_hz, "hop_length": hop, "fmax": 7_000.0}
    loaded = load_checkpoint(written(tmp_path, grown(BiGru()).state_dict(), settings))
    recording = read_recording(tmp_path / "clicks.wav")
    [piece] = loaded.pieces(recording)
    assert abs(len(piece.bands) - loaded.num_frames(recording)) <= 1
    loud = piece.bands.mean(axis=1)
    for click_s in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5):
        near = round(click_s * rate_hz / hop) + np.arange(-20, 21)
        middle = np.average(near, weights=np.maximum(loud[near] - loud[near].min(), 0.0))
        assert middle * hop / rate_hz == pytest.approx(click_s, abs=0.006)


def test_a_long_recording_in_pieces_has_the_bands_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sound = (0.1 * rng.standard_normal(44_100 * 80)).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", sound, 44_100, subtype="FLOAT")
    loaded = load_checkpoint(written(tmp_path, grown(BiGru()).state_dict(), SETTINGS))
    recording = read_recording(tmp_path / "long.wav")
    pieces = list(loaded.pieces(recording))
    assert len(pieces) > 2
    bands = np.concatenate([piece.bands[piece.keep] for piece in pieces])
    assert len(bands) == loaded.num_frames(recording)
    np.testing.assert_allclose(bands, log_mel(tmp_path / "long.wav")[0].numpy(), atol=2e-3)


def flux_network() -> nn.Module:
    """Return a convolution over time that finds a rise in the bands of each drum."""
    network = nn.Sequential(OrderedDict(rise=nn.Conv1d(BANDS, 3, 5, padding=2), head=nn.Conv1d(3, 3, 1)))
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        for output, own in enumerate((slice(0, 4), slice(14, 22), slice(28, 38))):
            network.rise.weight[output, own, 2:4] = 0.06
            network.rise.weight[output, own, :2] = -0.06
            network.head.weight[output, output, 0] = 1.0
        network.rise.bias.fill_(-1.0)
        network.head.bias.fill_(-3.0)
    return network


def test_drum_wav_to_midi(tmp_path: Path, recording: Path) -> None:
    settings = SETTINGS | {"hop_length": 441, "labels": ["hihat", "kick", "snare"], "thresholds": {"kick": 0.4}}
    network = flux_network()
    state = {name: value[[2, 0, 1]] for name, value in network.state_dict().items()}
    state["head.weight"] = torch.eye(3)[:, :, None]
    del settings["fmin"]
    files = drum_wav_to_midi(recording, written(tmp_path, state, settings), tmp_path / "out")
    transcript = files.transcript
    kicks = [hit.time_s for hit in transcript.hits if hit.drum == "kick"]
    assert kicks[:4] == pytest.approx([0.25, 1.25, 2.25, 3.25], abs=0.03)
    assert transcript.model_version.startswith("best_model (")
    [note] = [note for note in transcript.notes if "assumed" in note]
    assert "fmin 0.0" in note
    assert "n_fft" not in note
    assert files.midi.stat().st_size


def test_settings_as_yaml(tmp_path: Path) -> None:
    path = written(tmp_path, grown(BiGru()).state_dict())
    path.with_suffix(".yaml").write_text(f"sample_rate: 44100\nn_fft: 1024\nhop_length: 512\nn_mels: {BANDS}\n")
    loaded = load_checkpoint(path)
    assert loaded.front_end is not None
    assert loaded.front_end.n_fft == 1024


def test_more_outputs_are_mapped_by_their_names(tmp_path: Path, recording: Path) -> None:
    labels = ["ride", "snare", "kick", "hihat", "tom"]
    loaded = load_checkpoint(written(tmp_path, grown(BiGru(outputs=5)).state_dict(), SETTINGS | {"labels": labels}))
    assert loaded.hyper_parameters.labels == tuple(labels)
    assert transcribe_drums(recording, loaded).activations.labels == tuple(labels)


class Ambiguous(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(BANDS, 8, 3), nn.Conv1d(8, 8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.late = nn.BatchNorm1d(8)
        self.more = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 3)


def alien(**more: Any) -> dict[str, torch.Tensor]:
    return grown(BiGru()).state_dict() | {name: torch.ones(*shape) for name, shape in more.items()}


@pytest.mark.parametrize(
    ("state", "settings", "told"),
    [
        (grown(BiGru()).state_dict(), None, ["best_model.json", "sample_rate", "40 bands", "3 outputs"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"n_mels": 80}, ["n_mels 80", "40"]),
        (grown(BiGru(outputs=5)).state_dict(), SETTINGS, ["5 outputs", "3 labels", "kick, snare, hihat"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"labels": ["kick", "snare", "ride"]}, ["`labels`", "hihat"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"hop": 441}, ["hop", "hop_length"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"sample_rate": "44.1k"}, ["sample_rate", "44.1k"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"log": "decibel"}, ["log", "decibel"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"thresholds": {"gong": 0.5}}, ["gong"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"n_fft": 10**9}, ["n_fft", "1000000000"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"hop_length": 1}, ["hop_length"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"sample_rate": 1}, ["sample_rate"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"win_length": 2048}, ["win_length", "2048", "n_fft", "1024"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"fmin": 17_000.0}, ["fmin", "17000", "fmax", "16000"]),
        (grown(BiGru()).state_dict(), SETTINGS | {"mean": [0.0, 1.0]}, ["mean", "40"]),
        (grown(Crnn(norm=True)).state_dict(), {**SETTINGS, "n_mels": 50}, ["temporal", "80", "pool"]),
        (
            grown(Crnn(norm=True)).state_dict(),
            {name: value for name, value in SETTINGS.items() if name != "n_mels"},
            ["best_model.json", "n_mels"],
        ),
        (Ambiguous().state_dict(), SETTINGS, ["batch norm", "norm"]),
        (alien(**{"attention.in_proj_weight": (9, 3)}), SETTINGS, ["attention", "in_proj_weight (9, 3)"]),
        (alien(**{"extra.weight": (7, 5)}), SETTINGS, ["extra", "takes 5", "gives 3"]),
        ({"a.weight": torch.ones(3, 40), "a.bias": torch.full((3,), float("nan"))}, SETTINGS, ["a.bias", "not finite"]),
        ({"a.weight": torch.ones(8, 40, 4), "a.bias": torch.ones(8)}, SETTINGS, ["a", "(8, 40, 4)", "odd"]),
    ],
    ids=[
        "no settings",
        "other n_mels",
        "outputs",
        "no hihat",
        "unknown field",
        "wrong value",
        "wrong choice",
        "wrong threshold",
        "huge n_fft",
        "tiny hop_length",
        "tiny sample_rate",
        "win_length above n_fft",
        "fmin above fmax",
        "wrong mean",
        "pooling",
        "no n_mels",
        "norms",
        "attention",
        "broken chain",
        "not finite",
        "even kernel",
    ],
)
def test_the_message_names_what_is_missing(
    state: dict[str, torch.Tensor], settings: dict[str, Any] | None, told: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ModelLoadingError) as caught:
        load_checkpoint(written(tmp_path, state, settings))
    for words in told:
        assert words in caught.value.detail
    korean = translated(caught.value.detail, Locale.KO)
    assert "불러올 수 없습니다" in korean


@pytest.mark.parametrize("content", ["{", "[1, 2]", "\x00", "[" * 100_000])
def test_settings_that_can_not_be_read(content: str, tmp_path: Path) -> None:
    path = written(tmp_path, grown(BiGru()).state_dict())
    path.with_suffix(".json").write_text(content)
    with pytest.raises(ModelLoadingError, match=r"settings best_model\.json"):
        load_checkpoint(path)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code of a checkpoint has run",)


def test_no_code_of_the_file_runs(tmp_path: Path) -> None:
    state = grown(BiGru()).state_dict()
    with pytest.raises(ModelLoadingError, match="might run code"):
        load_checkpoint(written(tmp_path, {"state_dict": state, "callbacks": _Code()}, SETTINGS))
