"""The deployment without Ray: what a real, small, untrained network says, whoever shares its batches."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import torch

from serve_app.deployments import drum_transcriber as module
from serve_app.deployments.drum_transcriber import DrumTranscriber
from serve_app.errors import (
    AudioExtractionError,
    GpuMemoryError,
    InvalidRequest,
    ModelLoadingError,
    ProcessingError,
    StorageError,
)
from serve_app.models.drums import activations
from serve_app.models.drums.checkpoint import load_checkpoint, save_checkpoint
from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.network import DrumNetwork, HyperParameters
from serve_app.models.drums.options import DrumModelOptions
from serve_app.models.drums.transcription import transcribe_drums
from serve_app.models.options import ModelEnvironment
from serve_app.results import Drum, DrumTranscript
from serve_app.services import DrumOptions, DrumTranscription

SMALL = HyperParameters(conv_channels=(2, 2), width=8, block_width=8, dilations=(1, 2))
THRESHOLDS = dict.fromkeys(map(str, Drum), 0.5)


def recording(seconds: float, seed: int = 0) -> bytes:
    """Return a WAV with clicks and booms at random."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.001, int(44_100 * seconds))
    for start in rng.integers(0, max(1, len(samples) - 4000), int(4 * seconds)):
        samples[start : start + 4000] += rng.normal(0, 0.3, 4000) * np.exp(-np.arange(4000) / 600)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(44_100)
        written.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "best_model.pt"
    save_checkpoint(path, DrumNetwork(SMALL), thresholds=THRESHOLDS, model_version="untrained", facts={})
    return path


@pytest.fixture
def environment(tmp_path: Path) -> ModelEnvironment:
    return ModelEnvironment(models_dir=tmp_path)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def make(weights: Path, environment: ModelEnvironment) -> Callable[..., Any]:
    def make(**changed: Any) -> Any:
        return DrumTranscriber.func_or_class(DrumModelOptions(model=str(weights), **changed), environment)

    return make


def alone(weights: Path, content: bytes, **config: Any) -> DrumTranscript:
    return transcribe_drums(io.BytesIO(content), load_checkpoint(weights), InferenceConfig(**config)).transcript


def together(deployment: Any, *contents: bytes) -> list[DrumTranscription]:
    async def run() -> list[DrumTranscription]:
        return await asyncio.gather(*(deployment.transcribe(content) for content in contents))

    return asyncio.run(run())


class SpyNetwork:
    """Runs the real network, and remembers how many pieces came at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[list[Any]], Exception | None] | None = None):
        self.batches: list[int] = []
        self._fails = fails or (lambda pieces: None)
        self._run = activations.run_network
        monkeypatch.setattr(activations, "run_network", self)

    def __call__(self, network: Any, pieces: list[Any]) -> Any:
        self.batches.append(len(pieces))
        error = self._fails(pieces)
        if error is not None:
            raise error
        return self._run(network, pieces)


def test_says_what_the_model_says(make: Callable[..., Any], weights: Path, tmp_path: Path) -> None:
    content = recording(40)
    (tmp_path / "a.wav").write_bytes(content)
    expected = alone(weights, content)
    assert len(expected.hits) > 20
    for source in (content, str(tmp_path / "a.wav")):
        heard = asyncio.run(make().transcribe(source, filename="loop.wav"))
        assert heard.transcript == expected
        assert heard.text_log.startswith("# file: loop.wav\n")
        midi = mido.MidiFile(file=io.BytesIO(heard.midi))
        notes = [message for track in midi.tracks for message in track if message.type == "note_on"]
        assert 0 < len(notes) <= len(expected.hits)
        assert heard.picture is None
        assert heard.took_s > 0


def test_options_are_the_callers(make: Callable[..., Any], weights: Path) -> None:
    content = recording(4)
    given = DrumOptions(100.0, {Drum.KICK: 8}, {Drum.KICK: 0.9, Drum.SNARE: 0.01, Drum.HIHAT: 0.45}, True)
    heard = asyncio.run(make().transcribe(content, given))
    expected = transcribe_drums(
        io.BytesIO(content),
        load_checkpoint(weights),
        InferenceConfig({"kick": 8, "snare": 16, "hihat": 16}, {"kick": 0.9, "snare": 0.01, "hihat": 0.45}),
        100.0,
    ).transcript
    assert heard.transcript == expected
    assert heard.transcript.bpm == 100.0
    assert heard.picture is not None
    assert heard.picture.startswith(b"\x89PNG")


def test_requests_share_batches_and_hear_what_they_would_alone(
    make: Callable[..., Any], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SpyNetwork(monkeypatch)
    contents = [recording(34, seed) for seed in range(3)] + [recording(2, 9)]
    # a full batch is not waited for: the wait only has to be longer than the slowest machine takes to cut four pieces
    answers = together(make(batch_size=4, batch_wait_s=60.0), *contents)
    assert network.batches == [4]
    for answer, content in zip(answers, contents, strict=True):
        expected = alone(weights, content)
        assert [(hit.drum, hit.velocity) for hit in answer.transcript.hits] == [
            (hit.drum, hit.velocity) for hit in expected.hits
        ]
        np.testing.assert_allclose(
            [hit.time_s for hit in answer.transcript.hits], [hit.time_s for hit in expected.hits], atol=1e-3
        )


def test_a_long_recording_does_not_fill_the_queue(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = make(batch_size=1)
    waiting: list[int] = []
    submit = deployment._pieces.submit

    async def watched(bands: Any) -> Any:
        waiting.append(len(deployment._pieces._waiting))
        return await submit(bands)

    monkeypatch.setattr(deployment._pieces, "submit", watched)
    answer = asyncio.run(deployment.transcribe(recording(100)))
    assert answer.transcript.duration_s == pytest.approx(100, abs=0.01)
    assert len(waiting) >= 3
    assert max(waiting) <= module._PIECES_AHEAD


def test_short_ones_pass_a_long_one(make: Callable[..., Any]) -> None:
    ended: list[str] = []

    async def run() -> None:
        deployment = make(batch_size=1)

        async def transcribe(name: str, content: bytes) -> None:
            await deployment.transcribe(content)
            ended.append(name)

        long = asyncio.create_task(transcribe("long", recording(100)))
        await asyncio.sleep(0)
        await asyncio.gather(long, *(transcribe(f"short {n}", recording(5, n)) for n in range(3)))

    asyncio.run(run())
    assert ended[-1] == "long"


class TestFailure:
    def test_of_one_piece_is_its_requests_alone(
        self, make: Callable[..., Any], weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        short = recording(2)
        num_frames = 1000  # of the short one alone are there fewer

        def fails(pieces: list[Any]) -> Exception | None:
            return RuntimeError("bad numbers") if any(len(bands) < num_frames for bands in pieces) else None

        network = SpyNetwork(monkeypatch, fails)
        deployment = make(batch_wait_s=0.2)

        async def run() -> list[Any]:
            calls = (deployment.transcribe(content) for content in (recording(34, 1), short, recording(34, 2)))
            return await asyncio.gather(*calls, return_exceptions=True)

        first, failed, last = asyncio.run(run())
        assert isinstance(failed, ProcessingError)
        assert "bad numbers" in failed.detail
        assert first.transcript.duration_s == last.transcript.duration_s == 34.0
        assert max(network.batches) > 1

    def test_gpu_memory_runs_out_for_many_pieces_only(
        self, make: Callable[..., Any], weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(pieces: list[Any]) -> Exception | None:
            return torch.OutOfMemoryError("CUDA out of memory") if len(pieces) > 1 else None

        network = SpyNetwork(monkeypatch, fails)
        contents = [recording(34, seed) for seed in range(3)]
        answers = together(make(batch_wait_s=0.2), *contents)
        assert [answer.transcript for answer in answers] == [alone(weights, content) for content in contents]
        assert 1 in network.batches
        assert max(network.batches) > 1

    def test_gpu_memory_runs_out_for_one_piece_too(
        self, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        SpyNetwork(monkeypatch, lambda pieces: torch.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(GpuMemoryError):
            asyncio.run(make().transcribe(recording(100)))

    @pytest.mark.parametrize(
        ("source", "given", "error", "told"),
        [
            (b"", DrumOptions(), AudioExtractionError, "empty"),
            (b"no sound at all" * 99, DrumOptions(), AudioExtractionError, "media"),
            ("/nowhere/a.wav", DrumOptions(), StorageError, "can't be read"),
            (recording(1), DrumOptions(bpm=1.0), InvalidRequest, "bpm"),
            (recording(1), DrumOptions(grid_division={Drum.KICK: 1000}), InvalidRequest, "kick"),
            (recording(1), DrumOptions(thresholds={Drum.SNARE: 2.0}), InvalidRequest, "snare"),
        ],
    )
    def test_of_the_request(
        self, make: Callable[..., Any], source: Any, given: DrumOptions, error: type[Exception], told: str
    ) -> None:
        with pytest.raises(error, match=told):
            asyncio.run(make().transcribe(source, given))

    def test_of_loading_is_told_to_every_call_and_then_to_serve(
        self, environment: ModelEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "best_model.pt").write_bytes(b"not a checkpoint")
        deployment = DrumTranscriber.func_or_class(DrumModelOptions(model=str(tmp_path)), environment)
        for call in (deployment.transcribe(recording(1)), deployment.model_version()):
            with pytest.raises(ModelLoadingError, match="no file of weights"):
                asyncio.run(call)
        deployment.check_health()
        monkeypatch.setattr(deployment._model, "_started_at", deployment._model._started_at - 31)
        with pytest.raises(RuntimeError, match="no file of weights"):
            deployment.check_health()


def test_a_healthy_replica_names_its_weights(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = make()
    assert asyncio.run(deployment.model_version()).startswith("untrained (")
    monkeypatch.setattr(deployment._model, "_started_at", deployment._model._started_at - 1000)
    deployment.check_health()


def test_a_cancelled_call_stops_and_lets_the_next_one_in(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SpyNetwork(monkeypatch)
    deployment = make(num_readers=1)

    async def run() -> DrumTranscription:
        call = asyncio.create_task(deployment.transcribe(recording(300)))
        while not network.batches:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not deployment._pieces._waiting or all(future.done() for _, future in deployment._pieces._waiting)
        return await deployment.transcribe(recording(3))

    assert asyncio.run(run()).transcript.duration_s == pytest.approx(3.0)
    assert len(network.batches) < 8  # of the 13 that the long one has


def test_a_replica_describes_what_it_serves(make: Callable[..., Any], weights: Path) -> None:
    told = asyncio.run(make().describe())
    assert (told.spec, told.device, told.failure) == (weights.name, "cpu", None)
    assert told.model_version.startswith("untrained (")


def test_a_replica_without_a_model_says_why(environment: ModelEnvironment, tmp_path: Path) -> None:
    told = asyncio.run(
        DrumTranscriber.func_or_class(DrumModelOptions(model=str(tmp_path / "gone.pt")), environment).describe()
    )
    assert (told.model_version, told.warm) == (None, False)
    assert "gone.pt" in told.failure


def test_a_network_of_another_maker(tmp_path: Path, environment: ModelEnvironment) -> None:
    torch.manual_seed(5)
    rnn, head = torch.nn.GRU(40, 8, batch_first=True, bidirectional=True), torch.nn.Linear(16, 3)
    path = tmp_path / "other.pt"
    torch.save({"state_dict": torch.nn.ModuleDict({"rnn": rnn, "head": head}).state_dict()}, path)
    path.with_suffix(".json").write_text(
        '{"sample_rate": 22050, "hop_length": 256, "n_mels": 40, "labels": ["hihat", "snare", "kick"]}'
    )
    deployment = DrumTranscriber.func_or_class(DrumModelOptions(model=str(path)), environment)
    content = recording(90.0)  # several pieces
    [answer] = together(deployment, content)
    assert answer.transcript == alone(path, content)
    assert answer.transcript.model_version.startswith("other (")
    assert any("n_fft 2048" in note for note in answer.transcript.notes)
