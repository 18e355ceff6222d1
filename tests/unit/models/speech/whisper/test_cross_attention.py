"""Words' times from attention that is known: heads that look where they are told to."""

from __future__ import annotations

import pytest
import torch
from whisper.timing import median_filter

from serve_app.models.speech.whisper.cross_attention import (
    AlignmentHead,
    _median,
    head_of,
    outputs_of,
    text_probabilities,
    token_times,
)


def head_that_follows(
    begins: list[int], num_frames: int, *, num_start: int = 3, sharpness: float = 50.0
) -> AlignmentHead:
    """Return a head of one piece whose row for token i looks at the frames from begins[i] to begins[i + 1]."""
    frames = torch.arange(num_frames)
    keys = torch.nn.functional.one_hot(frames, num_frames).float()  # one channel a frame
    rows = [torch.zeros(num_frames) for _ in range(num_start)]
    for first, stop in zip(begins, [*begins[1:], num_frames], strict=True):
        rows.append(((frames >= first) & (frames < stop)).float() * sharpness)
    rows.append(torch.zeros(num_frames))  # the end's own row
    return AlignmentHead(torch.stack(rows)[None], keys[None])


def test_finds_the_frames_that_the_heads_look_at() -> None:
    begins = [0, 40, 90, 120]  # three text tokens, and the end
    head = head_that_follows(begins, 200)
    times = token_times([head, head], 0, num_start_tokens=3, probabilities=[0.9, 0.8, 0.7], num_frames=400)
    assert times.starts_s == pytest.approx([begin * 0.02 for begin in begins], abs=0.041)
    assert times.probabilities == [0.9, 0.8, 0.7]
    assert type(times.starts_s[1]) is float


def test_frames_behind_the_piece_count_for_nothing() -> None:
    head = head_that_follows([0, 40, 90, 120], 200)
    keys = torch.cat([head.keys, 100 * torch.ones(1, 300, 200)], dim=1)  # padding that draws all attention
    times = token_times(
        [AlignmentHead(head.queries, keys)], 0, num_start_tokens=3, probabilities=[0.5] * 3, num_frames=400
    )
    assert times.starts_s == pytest.approx([0.0, 0.8, 1.8, 2.4], abs=0.041)


def test_padding_tokens_and_neighbours_count_for_nothing() -> None:
    head = head_that_follows([0, 40, 90, 120], 200)
    noise = torch.Generator().manual_seed(0)
    queries = torch.cat([head.queries, torch.randn(1, 5, 200, generator=noise)], dim=1)
    queries = torch.cat([torch.randn(queries.shape, generator=noise), queries])
    padded = AlignmentHead(queries, head.keys.repeat(2, 1, 1))
    arguments = {"num_start_tokens": 3, "probabilities": [0.5] * 3, "num_frames": 400}
    assert token_times([padded], 1, **arguments) == token_times([head], 0, **arguments)


@pytest.mark.parametrize("num_frames", [2, 6, 7, 8, 400])
def test_smoothing_is_openais(num_frames: int) -> None:
    weights = torch.randn(2, 5, num_frames, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(_median(weights), median_filter(weights, 7))


def test_a_token_of_a_very_short_piece_has_times() -> None:
    head = AlignmentHead(torch.randn(1, 6, 8), torch.randn(1, 1500, 8))
    times = token_times([head], 0, num_start_tokens=3, probabilities=[0.5], num_frames=1)
    assert times.starts_s == [0.0, 0.0]


def test_probabilities_are_among_text_alone() -> None:
    logits = torch.tensor([[1.0, 2.0, 50.0], [3.0, 3.0, 50.0], [9.0, 9.0, 9.0]])  # the third id is no text
    assert text_probabilities(logits, [1, 0], 2) == pytest.approx([torch.tensor([1.0, 2.0]).softmax(0)[1].item(), 0.5])


def test_heads_are_slices_of_a_projection() -> None:
    projected = torch.arange(24.0).reshape(1, 2, 12)
    assert torch.equal(head_of(projected, 1, 3), projected.view(1, 2, 3, 4)[:, :, 1])


def test_outputs_are_collected_while_the_block_runs_and_not_after() -> None:
    layers = {0: torch.nn.Linear(2, 2), 5: torch.nn.Linear(2, 3)}
    with outputs_of(layers) as found:
        first = layers[0](torch.ones(1, 2))
        second = layers[5](torch.ones(1, 2))
    layers[0](torch.zeros(1, 2))
    assert found[0] is first
    assert found[5] is second
    assert not layers[0]._forward_hooks


def test_a_failure_inside_the_block_leaves_no_hooks() -> None:
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError), outputs_of({0: layer}):
        layer(torch.ones(1, 3))
    assert not layer._forward_hooks
