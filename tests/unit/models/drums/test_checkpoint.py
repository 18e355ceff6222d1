import pickle

import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.drums.checkpoint import load_checkpoint, save_checkpoint
from serve_app.models.drums.network import DrumNetwork, HyperParameters

SIZES = HyperParameters(conv_channels=(4, 8), width=16, block_width=8, dilations=(1, 3), kernel=3)
THRESHOLDS = {"kick": 0.4, "snare": 0.3, "hihat": 0.25}


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = DrumNetwork(SIZES)
    network.train()
    network(torch.rand(2, 30, 81))  # moves the statistics of the batch norms
    return network.eval()


@pytest.fixture
def path(tmp_path, network):
    path = tmp_path / "model" / "best_model.pt"
    save_checkpoint(path, network, thresholds=THRESHOLDS, model_version="test-net-1", facts={"songs": 3, "f": [0.5]})
    return path


@pytest.fixture
def changed(path):
    """Return a function that changes the stored dict and writes it again."""

    def change(edit):
        content = torch.load(path, weights_only=True)
        edited = edit(content)
        torch.save(content if edited is None else edited, path)
        return path

    return change


def refusal(path):
    with pytest.raises(ModelLoadingError) as caught:
        load_checkpoint(path)
    assert str(path) in caught.value.detail
    return caught.value.detail


def test_loads_what_was_saved(path, network):
    loaded = load_checkpoint(path)
    assert loaded.hyper_parameters == SIZES
    assert loaded.thresholds == THRESHOLDS
    assert loaded.facts == {"songs": 3, "f": [0.5]}
    assert not loaded.network.training
    bands = torch.rand(1, 40, 81)
    with torch.inference_mode():
        assert torch.allclose(loaded.network(bands).logits, network(bands).logits, atol=0.02)  # stored as float16


def test_parameters_are_float32_again_and_can_learn(path):
    network = load_checkpoint(path).network
    assert {each.dtype for each in network.parameters()} == {torch.float32}
    assert all(each.requires_grad for each in network.parameters())
    assert all(not each.is_meta for each in network.state_dict().values())


def test_the_version_tells_contents_apart(path, network, tmp_path):
    first = load_checkpoint(path).model_version
    assert first.startswith("test-net-1 (")
    with torch.no_grad():
        network.strokes.bias += 1
    other = tmp_path / "other.pt"
    save_checkpoint(other, network, thresholds=THRESHOLDS, model_version="test-net-1", facts={})
    assert load_checkpoint(other).model_version != first


def test_labels_of_their_own_are_kept(tmp_path):
    sizes = HyperParameters(**{**_as_dict(SIZES), "labels": ("hihat", "ride", "snare", "kick")})
    path = tmp_path / "own.pt"
    save_checkpoint(path, DrumNetwork(sizes), thresholds=THRESHOLDS, model_version="own", facts={})
    assert load_checkpoint(path).hyper_parameters.labels == ("hihat", "ride", "snare", "kick")


def test_is_small(tmp_path):
    path = tmp_path / "default.pt"
    save_checkpoint(path, DrumNetwork(), thresholds=THRESHOLDS, model_version="default", facts={})
    assert path.stat().st_size < 4_000_000


def test_says_when_there_is_no_file(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.pt")


def test_says_when_it_is_a_folder(tmp_path):
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"PK\x03\x04 not much of an archive"])
def test_says_when_it_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "best_model.pt"
    path.write_bytes(content)
    assert any(words in refusal(path) for words in ("no file of weights", "damaged"))


def test_says_when_it_is_cut_off(path):
    path.write_bytes(path.read_bytes()[:-2000])
    assert "damaged" in refusal(path)


class _Code:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint has run",))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_runs_no_code(tmp_path, write):
    path = tmp_path / "best_model.pt"
    write({"format": _Code()}, path)
    assert any(words in refusal(path) for words in ("might run code", "no file of weights"))


def test_says_when_it_is_a_bare_state_dict(tmp_path, network):
    path = tmp_path / "best_model.pt"
    torch.save(network.state_dict(), path)
    assert "a bare state_dict" in refusal(path)


@pytest.mark.parametrize("key", ["format", "model_version", "hyper_parameters", "features", "thresholds", "state_dict"])
def test_names_a_missing_key(changed, key):
    assert f"lacks {key}" in refusal(changed(lambda content: content.pop(key) and None))


def _as_dict(sizes):
    return {name: getattr(sizes, name) for name in HyperParameters.__slots__}


def _set(key, value):
    return lambda content: content.__setitem__(key, value)


def _set_in(outer, key, value):
    return lambda content: content[outer].__setitem__(key, value)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda content: [1, 2], "a list, not a dict"),
        (_set("version", 2), "version 2"),
        (_set("format", "drumnet"), "'drumnet'"),
        (_set("model_version", 3), "model_version is no text"),
        (_set("facts", "many"), "facts are str"),
        (_set("hyper_parameters", {"gru": 3}), "hyper_parameters are gru, not labels"),
        (_set_in("hyper_parameters", "labels", ["kick", "snare"]), "does not know hihat"),
        (_set_in("hyper_parameters", "labels", ["kick", "snare", "hihat", "kick"]), "labels repeat"),
        (_set_in("hyper_parameters", "dilations", 4), "dilations is 4"),
        (_set_in("hyper_parameters", "width", -16), "no network has its hyper_parameters"),
        (_set_in("hyper_parameters", "width", 24), "has the shape"),
        (_set_in("hyper_parameters", "dilations", [1, 3, 9]), "state_dict lacks blocks.2"),
        (_set_in("hyper_parameters", "dilations", [1]), "state_dict has blocks.1"),
        (_set_in("features", "sample_rate_hz", 16_000), "sample_rate_hz 16000 instead of 44100"),
        (_set("features", {}), "hop unstated instead of 441"),
        (_set("thresholds", {"kick": 0.5, "hihat": 0.5}), "no threshold for snare"),
        (_set_in("thresholds", "kick", 1.5), "threshold for kick is 1.5"),
        (_set_in("thresholds", "gong", 0.5), "thresholds for gong"),
        (_set("state_dict", [1]), "no dict of tensors"),
        (
            _set_in("state_dict", "strokes.bias", torch.full((6,), float("nan"))),
            "strokes.bias in its state_dict is not",
        ),
    ],
)
def test_says_what_does_not_fit(changed, edit, told):
    assert told in refusal(changed(edit))


def test_says_when_the_device_is_not_there(path):
    with pytest.raises(ModelLoadingError) as caught:
        load_checkpoint(path, device="mps" if torch.cuda.is_available() else "cuda")
    assert "can't run on device" in caught.value.detail


def test_an_unknown_device_is_told_too(path):
    with pytest.raises(ModelLoadingError) as caught:
        load_checkpoint(path, device="abacus")
    assert "abacus" in caught.value.detail
