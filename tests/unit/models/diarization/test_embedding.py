import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.diarization import embedding
from serve_app.models.diarization.embedding import (
    WEIGHTS_PATH,
    NetworkShape,
    SpeakerNetwork,
    load_embedding,
    save_embedding,
)

SPEAKERS = Path(__file__).parents[4] / "../shared/data/speakers"


@pytest.fixture(scope="module")
def model():
    return load_embedding()


@pytest.fixture
def no_pickle(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was read")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)


@pytest.mark.usefixtures("no_pickle")
def test_shipped_weights_load_without_pickle_and_are_small():
    model = load_embedding()
    assert not model.training
    assert model.dimension == 128
    assert WEIGHTS_PATH.stat().st_size < 8e6


def test_what_is_saved_comes_back(tmp_path):
    torch.manual_seed(0)
    network = SpeakerNetwork(NetworkShape(dimension=16, channels=8, pooled_channels=12, dilations=(1, 2))).eval()
    save_embedding(network, tmp_path / "small.safetensors")
    restored = load_embedding(tmp_path / "small.safetensors")
    assert restored.dimension == 16
    features, weights = torch.randn(2, 120, 104), torch.rand(2, 120)
    assert torch.equal(network(features, weights), restored.network(features, weights))


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", None])
def test_a_missing_or_broken_file_says_what_to_do(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelLoadingError, match=r"training\.speaker_embedding"):
        load_embedding(path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    network = SpeakerNetwork(NetworkShape(channels=8))
    network.shape = NetworkShape(channels=16)
    save_embedding(network, tmp_path / "odd.safetensors")
    with pytest.raises(ModelLoadingError, match="size mismatch"):
        load_embedding(tmp_path / "odd.safetensors")


def test_masks_at_pyannotes_frame_rate_choose_the_speech(model):
    rng = torch.Generator().manual_seed(2)
    first, second = torch.randn(1, 1, 80_000, generator=rng), torch.zeros(1, 1, 80_000)
    second[..., ::140] = 1.0
    both = torch.cat([first[..., :40_000], second[..., 40_000:]], dim=2)
    left = torch.zeros(1, 293)
    left[:, :140] = 1.0
    with torch.inference_mode():
        halves = model(both.repeat(2, 1, 1), weights=torch.cat([left, 1.0 - left]))
        wholes = model(torch.cat([first, second]))
    similarity = torch.cosine_similarity(halves[:, None], wholes[None], dim=2)
    assert similarity[0, 0] > similarity[0, 1] + 0.3
    assert similarity[1, 1] > similarity[1, 0] + 0.3


def test_repeated_chunks_get_what_they_would_get_alone(model):
    chunks = torch.randn(2, 1, 16_000)
    with torch.inference_mode():
        together = model(chunks[[0, 0, 1]], weights=torch.ones(3, 59))
        alone = model(chunks[[1]], weights=torch.ones(1, 59))
    assert torch.allclose(together[2], alone[0], atol=1e-4)
    assert torch.allclose(together[0], together[1], atol=1e-5)


def test_too_short_input_is_refused_so_that_pyannote_finds_the_bound(model):
    with pytest.raises(ValueError, match="1600"):
        model(torch.randn(1, 1, 1599))
    assert model(torch.randn(1, 1, 1600)).shape == (1, 128)


@pytest.mark.skipif(not SPEAKERS.is_dir(), reason="needs shared/data/speakers beside the project")
def test_two_pieces_of_one_voice_are_more_alike_than_two_voices(model):
    paths = sorted(SPEAKERS.glob("*.flac"))[:120:10]
    pieces = []
    for path in paths:
        samples, _ = soundfile.read(path, dtype="float32")
        half = samples.size // 2
        pieces += [samples[: min(half, 48_000)], samples[half : half + 48_000]]
    with torch.inference_mode():
        vectors = torch.cat([model(torch.from_numpy(piece)[None, None]) for piece in pieces]).numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    same = [similarity[2 * i, 2 * i + 1] for i in range(len(paths))]
    other = [similarity[i, j] for i, j in itertools.combinations(range(len(pieces)), 2) if i // 2 != j // 2]
    assert np.mean(same) > np.mean(other) + 0.4


def test_fingerprint_tells_files_apart(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert embedding.fingerprint(tmp_path / "a") == "ca978112"
    assert embedding.fingerprint(tmp_path / "b") != "ca978112"
