import pytest
import torch
from torch.nn import functional

from serve_app.models.diarization import voices
from serve_app.models.diarization.campplus import CamPlusPlus, CamShape, filter_banks
from serve_app.models.diarization.embedding import load_embedding
from serve_app.models.diarization.voices import CamEmbedding, FusedEmbedding, load_cam_embedding

SMALL = CamShape(head_channels=4, initial_channels=8, growth=4, layers=(2, 1), dilations=(1, 2), dimension=6)


@pytest.fixture(scope="module")
def cam():
    torch.manual_seed(0)
    return CamEmbedding(CamPlusPlus(SMALL)).eval()


@pytest.fixture(scope="module")
def chunks():
    return torch.randn(3, 1, 160_000, generator=torch.Generator().manual_seed(1)) * 0.1


def mask(*spans):
    """Return (1, 589): one in the given spans of seconds of ten."""
    weights = torch.zeros(1, 589)
    for start_s, end_s in spans:
        weights[:, round(start_s * 58.9) : round(end_s * 58.9)] = 1.0
    return weights


def test_only_the_speakers_own_frames_are_read(cam, chunks):
    other = chunks[:1].clone()
    other[..., 48_000:] = 1.0 * torch.randn(1, 1, 112_000)
    with torch.inference_mode():
        vectors = cam(torch.cat([chunks[:1], other]), weights=mask((0.5, 2.7)).repeat(2, 1))
    assert torch.allclose(vectors[0], vectors[1], atol=1e-4)


def test_together_is_the_same_as_one_by_one(cam, chunks):
    weights = torch.cat([mask((0.0, 1.3)), mask((2.0, 9.0)), mask((0.1, 0.3)), mask((4.0, 5.3)), mask((1.0, 4.5))])
    rows = [0, 0, 1, 1, 2]
    with torch.inference_mode():
        together = cam(chunks[rows], weights=weights)
        alone = torch.cat([cam(chunks[[row]], weights=own[None]) for row, own in zip(rows, weights, strict=True)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_crops_of_one_length_are_one_call(cam, chunks, monkeypatch):
    calls = []
    forward = CamPlusPlus.forward
    monkeypatch.setattr(CamPlusPlus, "forward", lambda self, x: calls.append(tuple(x.shape)) or forward(self, x))
    weights = torch.cat([mask((0.0, 4.5)), mask((1.0, 9.0)), mask((2.0, 7.7)), mask((3.0, 4.6))])
    with torch.inference_mode():
        cam(chunks[[0, 1, 2, 2]], weights=weights)
    assert sorted(calls) == [(1, 150, 80), (3, 400, 80)]


def test_without_a_mask_and_with_an_empty_one_the_whole_is_read(cam, chunks):
    with torch.inference_mode():
        whole = cam(chunks[:2])
        nobody = cam(chunks[:2], weights=torch.zeros(2, 589))
    assert torch.equal(whole, nobody)
    assert torch.isfinite(whole).all()


@pytest.mark.parametrize(("given", "expected"), [(1, 50), (49, 50), (50, 50), (199, 150), (400, 400), (990, 400)])
def test_crops_have_few_lengths(given, expected):
    frames = torch.arange(given).float()[:, None].expand(-1, 80)
    crop = voices._cut(frames)
    assert crop.shape == (expected, 80)
    if given >= 50:
        assert abs(crop[:, 0].mean() - frames[:, 0].mean()) <= 0.5  # the middle


def test_the_mean_over_the_crop_is_removed_before_the_network(cam, chunks, monkeypatch):
    seen = []
    monkeypatch.setattr(CamPlusPlus, "forward", lambda self, x: seen.append(x) or x.new_zeros(len(x), 6))
    cam(chunks[:1, :, : 199 * 160 + 400])
    frames = filter_banks(chunks[0, 0])[:200]
    assert torch.allclose(seen[0][0], frames - frames.mean(dim=0), atol=1e-4)


def test_too_short_input_is_refused_so_that_pyannote_finds_the_bound(cam):
    with pytest.raises(ValueError, match="400"):
        cam(torch.randn(1, 1, 399))
    assert cam(torch.randn(1, 1, 400)).shape == (1, 6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_cosine_of_two_is_the_weighted_sum_of_their_cosines(cam, chunks, share):
    own = load_embedding()
    fused = FusedEmbedding(cam, own, share).eval()
    weights = mask((0.0, 5.0)).repeat(3, 1)
    with torch.inference_mode():
        first, second, both = (functional.normalize(model(chunks, weights=weights)) for model in (cam, own, fused))
    assert fused.dimension == 6 + 128
    assert torch.allclose(both @ both.T, share * first @ first.T + (1 - share) * second @ second.T, atol=1e-4)


def test_a_stored_network_becomes_a_model(cam, chunks, tmp_path):
    torch.save(cam.network.state_dict(), tmp_path / "campplus.pt")
    model = load_cam_embedding(tmp_path / "campplus.pt", SMALL)
    assert not model.training
    assert model.dimension == 6
    with torch.inference_mode():
        assert torch.equal(model(chunks[:1]), cam(chunks[:1]))
