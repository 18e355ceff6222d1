"""Pieces and the whole are the same, whatever the cuts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from serve_app.models.drums.activations import LEAD_FRAMES, Piece, PieceOutput, Stitcher, cut_pieces, run_network
from serve_app.models.drums.bands import log_bands, num_bands
from serve_app.models.drums.network import DrumNetwork, HyperParameters

SMALL = HyperParameters(conv_channels=(2, 3), width=8, block_width=6, dilations=(1, 2, 4), kernel=3, gru_width=8)


def noise(num_samples: int) -> np.ndarray:
    """Bursts, so that every frame differs."""
    rng = np.random.default_rng(1)
    envelope = np.exp(-(np.arange(num_samples) % 9_000) / 2_000)
    return (0.3 * envelope * rng.standard_normal(num_samples)).astype(np.float32)


def blocks_of(samples: np.ndarray, seed: int, longest: int = 200_000) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    start = 0
    while start < len(samples):
        end = start + int(rng.integers(0, longest))
        yield samples[start:end]
        start = end


def heard_whole(network: DrumNetwork, samples: np.ndarray) -> PieceOutput:
    [heard] = run_network(network, [np.pad(log_bands(samples), ((LEAD_FRAMES, 0), (0, 0)))])
    return PieceOutput(heard.probabilities[LEAD_FRAMES:], heard.levels_db[LEAD_FRAMES:])


@pytest.fixture(scope="module")
def network() -> DrumNetwork:
    torch.manual_seed(0)
    made = DrumNetwork(SMALL).eval()
    with torch.no_grad():  # of the first, untrained layers little comes through
        made.strokes.weight *= 30.0
    return made


@pytest.mark.parametrize("num_samples", [1, 440, 441, 442, 1323, 30_000, 441 * 300, 441 * 301 + 5, 441 * 1_000 + 3])
@pytest.mark.parametrize("longest", [500, 3_000, 200_000])
def test_bands_of_pieces_are_those_of_the_whole(num_samples: int, longest: int) -> None:
    samples = noise(num_samples)
    bands = log_bands(samples * np.float32(2.0))
    whole = np.pad(bands, ((LEAD_FRAMES, 0), (0, 0)))
    kept = np.zeros(len(bands), dtype=int)
    blocks = blocks_of(samples, num_samples, longest)
    pieces = list(cut_pieces(blocks, gain=2.0, piece_frames=300, context_frames=40))
    for piece in pieces:
        end = piece.first_frame + len(piece.bands)
        np.testing.assert_allclose(piece.bands, whole[piece.first_frame + LEAD_FRAMES :][: len(piece.bands)], atol=1e-5)
        kept[piece.first_frame + piece.keep.start : piece.first_frame + piece.keep.stop] += 1
        assert piece.first_frame == -LEAD_FRAMES or piece.keep.start >= 40
        assert end == len(bands) or len(piece.bands) - piece.keep.stop >= 40
    assert kept.tolist() == [1] * len(bands)
    assert [len(piece.bands) for piece in pieces[:-1]] == [300] * (len(pieces) - 1)
    assert len(pieces[-1].bands) <= 300


def test_no_samples_no_pieces() -> None:
    assert list(cut_pieces([])) == []
    assert list(cut_pieces([np.empty(0, dtype=np.float32)])) == []


def test_pieces_of_nothing_but_context_are_refused() -> None:
    with pytest.raises(ValueError, match="all context"):
        list(cut_pieces([], piece_frames=80, context_frames=40))


def test_activations_of_pieces_are_those_of_the_whole(network: DrumNetwork) -> None:
    samples = noise(44_100 * 45)
    whole = heard_whole(network, samples)
    assert whole.probabilities.std() > 0.05  # it says something
    pieces = list(cut_pieces(blocks_of(samples, 3), piece_frames=1200))
    assert len(pieces) > 5
    stitcher = Stitcher(SMALL.labels)
    order = np.random.default_rng(0).permutation(len(pieces)).tolist()
    for start in range(0, len(order), 4):
        batch = [pieces[index] for index in order[start : start + 4]]
        for piece, output in zip(batch, run_network(network, [each.bands for each in batch]), strict=True):
            stitcher.add(piece, output)
    activations = stitcher.finish(len(whole.probabilities))
    np.testing.assert_allclose(activations.probabilities, whole.probabilities, atol=1e-3)
    np.testing.assert_allclose(activations.levels_db, whole.levels_db, rtol=1e-3, atol=1e-3)
    assert activations.labels == SMALL.labels


def test_too_little_context_shows(network: DrumNetwork) -> None:
    """The test above can fail."""
    samples = noise(44_100 * 4)
    whole = heard_whole(network, samples)
    stitcher = Stitcher(SMALL.labels)
    for piece in cut_pieces([samples], piece_frames=60, context_frames=1):
        stitcher.add(piece, run_network(network, [piece.bands])[0])
    stitched = stitcher.finish(len(whole.probabilities)).probabilities
    assert np.abs(stitched - whole.probabilities).max() > 1e-2


def test_pieces_of_all_lengths_in_one_call_are_as_alone(network: DrumNetwork) -> None:
    lengths = [50, 200, 1, 50, 120, 200]
    pieces = [log_bands(noise(441 * length) * np.float32(1 + index)) for index, length in enumerate(lengths)]
    together = run_network(network, pieces)
    assert [output.probabilities.shape for output in together] == [(length, 6) for length in lengths]
    for piece, output in zip(pieces, together, strict=True):
        [alone] = run_network(network, [piece])
        np.testing.assert_allclose(output.probabilities, alone.probabilities, atol=1e-5)
        np.testing.assert_allclose(output.levels_db, alone.levels_db, atol=1e-3)
    assert run_network(network, []) == []


def test_frames_of_which_no_piece_told_are_silent() -> None:
    stitcher = Stitcher(("kick", "snare"))
    bands = np.zeros((10, num_bands()), dtype=np.float32)
    stitcher.add(Piece(bands, 0, slice(0, 8)), PieceOutput(np.full((10, 2), 0.5), np.full((10, 2), -20.0)))
    activations = stitcher.finish(12)
    assert activations.probabilities[:, 0].tolist() == [0.5] * 8 + [0.0] * 4
    assert activations.levels_db[:, 1].tolist() == [-20.0] * 8 + [-100.0] * 4
