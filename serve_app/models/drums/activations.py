"""`cut_pieces`, `Stitcher`: samples to the network's activations, in overlapping pieces: memory does not grow.

    stitcher = Stitcher(labels)
    for piece in cut_pieces(blocks, gain=gain):
        [output] = run_network(network, [piece.bands])
        stitcher.add(piece, output)
    activations = stitcher.finish(num_frames)

Pieces are independent: they may be run in any order and in batches, also with pieces of other recordings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from serve_app.models.drums.bands import FRAMES_PER_S, HOP, WINDOW, log_bands, num_bands
from serve_app.models.drums.network import FOLLOWED_FRAMES, FOLLOWED_FROM, DrumNetwork

# At either end of a piece; what lies there another piece tells better. As much as the network's GRU and convolutions
# look around, so that a piece gets the activations of the whole.
CONTEXT_FRAMES = FOLLOWED_FROM
# All pieces but a recording's last have this length, so that they fit into one batch; 30 s are kept of each. For one
# the network takes some 55 MB.
PIECE_FRAMES = 5 * FOLLOWED_FRAMES + 2 * CONTEXT_FRAMES
# Silence before a recording: the network hears a stroke by what rises, and on the very first sample nothing would.
LEAD_FRAMES = 5
# Frames whose window reaches beyond the samples at hand.
_EDGE_FRAMES = -(-WINDOW // 2 // HOP)
_LEAST_FRAMES = FRAMES_PER_S  # fewer are not worth a call of their own
_NO_LEVEL_DB = -100.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a recording.

    Attributes:
        bands: (frames, bands) float32.
        first_frame: where in the recording it begins; the first piece begins a little before it.
        keep: the frames, counted from the piece's own first, that it decides about; the others are context.
    """

    bands: np.ndarray
    first_frame: int
    keep: slice


@dataclass(frozen=True, slots=True)
class PieceOutput:
    """What the network says of a piece.

    Attributes:
        probabilities: (frames, labels) that a stroke falls on the frame.
        levels_db: (frames, labels), how loud it is.
    """

    probabilities: np.ndarray
    levels_db: np.ndarray


@dataclass(frozen=True, slots=True)
class DrumActivations:
    """What the network says of a recording.

    Attributes:
        probabilities: (frames, labels) float16 that a stroke falls on the frame.
        levels_db: (frames, labels) float16, level of that stroke alone; means something at strokes only.
        labels: what the columns are.
        frames_per_s: frame rate; frame 0 is the start of the recording.
    """

    probabilities: np.ndarray
    levels_db: np.ndarray
    labels: tuple[str, ...]
    frames_per_s: float = FRAMES_PER_S


def cut_pieces(
    blocks: Iterable[np.ndarray],
    *,
    gain: float = 1.0,
    piece_frames: int = PIECE_FRAMES,
    context_frames: int = CONTEXT_FRAMES,
) -> Iterator[Piece]:
    """Cut music into overlapping pieces; every frame is kept by exactly one of them.

    The first piece begins with `LEAD_FRAMES` of silence that it does not keep.

    Args:
        blocks: (n,) float32 each, mono at 44.1 kHz.
        gain: factor that brings them to the network's level.
        piece_frames: length of all pieces but the last, which may be shorter.
        context_frames: so many lie before and after what a piece keeps, but for the recording's ends.
    """
    if piece_frames <= 2 * context_frames:
        raise ValueError(f"Pieces of {piece_frames} frames are all context, of twice {context_frames}")
    held = np.zeros((LEAD_FRAMES, num_bands()), dtype=np.float32)  # the bands of silence are zeros
    start, kept = -LEAD_FRAMES, 0  # frames of the recording: where `held` begins, and the first that no piece has kept
    for bands in _band_blocks(blocks, np.float32(gain)):
        held = np.concatenate([held, bands])
        while len(held) > piece_frames:  # it is not the last
            end = start + piece_frames - context_frames
            yield Piece(held[:piece_frames].copy(), start, slice(kept - start, end - start))
            kept, start = end, end - context_frames
            held = held[piece_frames - 2 * context_frames :]
    total = start + len(held)
    if total > 0:
        yield Piece(held.copy(), start, slice(kept - start, total - start))


class Stitcher:
    """Joins the pieces of one recording, in whatever order their outputs come."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, piece: Piece, output: PieceOutput) -> None:
        """Take in what the network said of a piece."""
        self._parts[piece.first_frame + piece.keep.start] = (
            output.probabilities[piece.keep].astype(np.float16),
            output.levels_db[piece.keep].astype(np.float16),
        )

    def finish(self, num_frames: int) -> DrumActivations:
        """Return the whole; frames of which no piece told are silent."""
        probabilities = np.zeros((num_frames, len(self._labels)), dtype=np.float16)
        levels_db = np.full((num_frames, len(self._labels)), _NO_LEVEL_DB, dtype=np.float16)
        while self._parts:
            start, (strokes, levels) = self._parts.popitem()  # one by one: the parts and the whole are never both there
            end = min(start + len(strokes), num_frames)
            probabilities[start:end], levels_db[start:end] = strokes[: end - start], levels[: end - start]
        return DrumActivations(probabilities, levels_db, self._labels)


def run_network(network: DrumNetwork, pieces: Sequence[np.ndarray]) -> list[PieceOutput]:
    """Run the network, on its device, over the bands of several pieces at once.

    What is said of a piece does not depend on the others: pieces of equal length share a batch, none is padded.

    Args:
        pieces: (frames, bands) float32 each.
    """
    device = next(network.parameters()).device
    outputs: list[PieceOutput | None] = [None] * len(pieces)
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, bands in enumerate(pieces):
        by_length[len(bands)].append(index)
    for indices in by_length.values():
        batch = torch.from_numpy(np.stack([pieces[index] for index in indices]))  # (batch, frames, bands)
        with torch.inference_mode():
            told = network(batch.to(device))
            probabilities, levels_db = told.logits.sigmoid().float().cpu().numpy(), told.levels_db.float().cpu().numpy()
        for row, index in enumerate(indices):
            outputs[index] = PieceOutput(probabilities[row], levels_db[row])
    return [output for output in outputs if output is not None]


def _band_blocks(blocks: Iterable[np.ndarray], gain: np.float32) -> Iterator[np.ndarray]:
    """Yield the log-bands of blocks, the same as of the whole."""
    held = np.empty(0, dtype=np.float32)
    first = done = 0  # the frame on whose centre `held` begins, and the first that was not yielded yet
    for block in blocks:
        held = np.concatenate([held, block * gain])
        ready = first + (len(held) - WINDOW // 2) // HOP + 1  # their windows end within `held`
        if ready - done < _LEAST_FRAMES:
            continue
        yield log_bands(held)[done - first : ready - first]
        done = ready
        back = max(first, done - _EDGE_FRAMES)
        held, first = held[(back - first) * HOP :], back
    yield log_bands(held)[done - first :]
