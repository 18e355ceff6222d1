"""`cut_pieces`, `run_network`, `Stitcher`: from samples to activations, in overlapping pieces: memory is bounded.

Pieces are independent: they may be run in any order and in batches, also with pieces of other recordings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from serve_app.models.drums.bands import FRAMES_PER_S, HOP, WINDOW, log_bands, num_bands
from serve_app.models.drums.network import FOLLOWED_FRAMES, FOLLOWED_FROM, DrumNetwork

if TYPE_CHECKING:
    from serve_app.models.drums.foreign_network import ForeignNetwork

# At either end of a piece, not kept: as much as the network's GRU and convolutions look around, so that the kept frames
# get the activations of the whole recording.
CONTEXT_FRAMES = FOLLOWED_FROM
# All pieces but a recording's last have this length, so that they fit into one batch; 30 s of each are kept. The
# network uses about 55 MB for one.
PIECE_FRAMES = 5 * FOLLOWED_FRAMES + 2 * CONTEXT_FRAMES
# Silence before a recording: the network finds a stroke by a rise, also on the very first sample.
LEAD_FRAMES = 5
_EDGE_FRAMES = -(-WINDOW // 2 // HOP)  # their windows reach beyond the samples that are there
_LEAST_FRAMES = FRAMES_PER_S  # fewer are not worth a call of their own
_NO_LEVEL_DB = -100.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a recording.

    Attributes:
        bands: (frames, bands) float32.
        first_frame: its place in the recording; the first piece begins a little before the recording.
        keep: its own frames, counted from its first; the others are context.
    """

    bands: np.ndarray
    first_frame: int
    keep: slice


@dataclass(frozen=True, slots=True)
class PieceOutput:
    """The network's output for a piece.

    Attributes:
        probabilities: (frames, labels) that a stroke falls on the frame.
        levels_db: (frames, labels), how loud it is.
    """

    probabilities: np.ndarray
    levels_db: np.ndarray


@dataclass(frozen=True, slots=True)
class DrumActivations:
    """The network's output for a recording; frame 0 is its start.

    Attributes:
        probabilities: (frames, labels) float16 that a stroke falls on the frame.
        levels_db: (frames, labels) float16, level of that stroke alone; arbitrary where there is none.
        labels: of the columns.
        frames_per_s: frame rate.
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
    """Cut music into overlapping pieces; exactly one of them keeps each frame.

    The first piece begins with `LEAD_FRAMES` of silence that it does not keep.

    Args:
        blocks: (n,) float32 each, mono at 44.1 kHz.
        gain: factor that brings them to the network's level.
        piece_frames: length of all pieces but the last, which may be shorter.
        context_frames: before and after the kept frames, but for the recording's ends.
    """
    # the bands of silence are zeros
    silence = np.zeros((LEAD_FRAMES, num_bands()), dtype=np.float32)
    bands = _band_blocks(blocks, np.float32(gain))
    yield from cut_bands(bands, lead=silence, piece_frames=piece_frames, context_frames=context_frames)


def cut_bands(
    bands: Iterable[np.ndarray], *, piece_frames: int, context_frames: int, lead: np.ndarray | None = None
) -> Iterator[Piece]:
    """Cut bands, (frames, bands) each, as `cut_pieces` does; `lead` is put before them and not kept."""
    if piece_frames <= 2 * context_frames:
        raise ValueError(f"Pieces of {piece_frames} frames are all context, of twice {context_frames}")
    held = lead
    start = 0 if lead is None else -len(lead)
    kept = 0  # the first frame of the recording that no piece keeps yet; `start` is the first of `held`
    for block in bands:
        held = block if held is None else np.concatenate([held, block])
        while len(held) > piece_frames:  # it is not the last
            end = start + piece_frames - context_frames
            yield Piece(held[:piece_frames].copy(), start, slice(kept - start, end - start))
            kept, start = end, end - context_frames
            held = held[piece_frames - 2 * context_frames :]
    if held is not None and (total := start + len(held)) > 0:
        yield Piece(held.copy(), start, slice(kept - start, total - start))


class Stitcher:
    """Joins the outputs of one recording's pieces, which may come in any order."""

    def __init__(self, labels: Sequence[str], frames_per_s: float = FRAMES_PER_S) -> None:
        self._labels = tuple(labels)
        self._frames_per_s = frames_per_s
        self._parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, piece: Piece, output: PieceOutput) -> None:
        """Add the network's output for a piece."""
        self._parts[piece.first_frame + piece.keep.start] = (
            output.probabilities[piece.keep].astype(np.float16),
            output.levels_db[piece.keep].astype(np.float16),
        )

    def finish(self, num_frames: int) -> DrumActivations:
        """Return the whole; frames without a piece are silent."""
        probabilities = np.zeros((num_frames, len(self._labels)), dtype=np.float16)
        levels_db = np.full((num_frames, len(self._labels)), _NO_LEVEL_DB, dtype=np.float16)
        while self._parts:
            start, (strokes, levels) = self._parts.popitem()  # one by one: the parts and the whole are never both there
            end = min(start + len(strokes), num_frames)
            probabilities[start:end], levels_db[start:end] = strokes[: end - start], levels[: end - start]
        return DrumActivations(probabilities, levels_db, self._labels, self._frames_per_s)


def run_network(network: DrumNetwork | ForeignNetwork, pieces: Sequence[np.ndarray]) -> list[PieceOutput]:
    """Run the network, on its device, over the bands of pieces, (frames, bands) float32 each.

    A piece's output does not depend on the others: pieces of equal length share a batch, none is padded.
    """
    device = next(network.parameters()).device
    outputs: list[PieceOutput | None] = [None] * len(pieces)
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, bands in enumerate(pieces):
        by_length[len(bands)].append(index)
    for indices in by_length.values():
        batch = torch.from_numpy(np.stack([pieces[index] for index in indices]))  # (batch, frames, bands)
        with torch.inference_mode():
            logits, levels = network(batch.to(device))
            probabilities, levels_db = logits.sigmoid().float().cpu().numpy(), levels.float().cpu().numpy()
        for row, index in enumerate(indices):
            outputs[index] = PieceOutput(probabilities[row], levels_db[row])
    return [output for output in outputs if output is not None]


def _band_blocks(blocks: Iterable[np.ndarray], gain: np.float32) -> Iterator[np.ndarray]:
    """Yield the log-bands of the signal, block by block."""
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
