from dataclasses import asdict

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from training.whisper_micro.export import export, load_network, whole_embedding
from training.whisper_micro.network import Sizes
from training.whisper_micro.rows import Rows
from training.whisper_micro.train import make_network

pytestmark = pytest.mark.slow  # trains, or makes speech to test with

SIZES = Sizes(d_model=32, heads=2, encoder_layers=1, decoder_layers=2)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = make_network(SIZES).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # float16 is what is exported
            parameter.copy_(parameter.half().float())
    return network


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export(network, folder)
    return WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def test_transformers_computes_the_same(network, exported):
    rows = Rows()
    mels = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1))
    inputs = torch.tensor([[rows.sot, rows.language("ko"), rows.special("transcribe"), rows.stamp(1.5)]])
    own = network(mels, inputs, torch.zeros(1, dtype=torch.long)).tokens
    ids = torch.tensor([[rows.ids[row] for row in inputs[0]]])
    theirs = exported(input_features=mels, decoder_input_ids=ids).logits
    assert torch.allclose(theirs[0][:, torch.tensor(rows.ids)], own[0, :, :-1], atol=2e-3)
    unused = next(token for token in range(51_865) if token not in rows.of)
    assert torch.allclose(theirs[0, :, unused], own[0, :, -1] - network.shares[-1], atol=2e-3)


def test_the_guided_heads_are_the_alignment_heads(exported):
    assert exported.generation_config.alignment_heads == [[1, 0], [1, 1]]


def test_says_which_languages_it_was_made_for(exported):
    assert exported.config.languages == ["en", "ko"]


def test_every_unused_id_has_the_shared_row():
    rows = Rows()
    weights = torch.arange(float(rows.num))[:, None]
    whole = whole_embedding(weights, 51_865)[:, 0]
    assert whole[rows.tokenizer.eot] == rows.of[rows.tokenizer.eot]
    assert (whole == rows.num - 1).sum() == 51_865 - len(rows.ids)


def test_reads_what_training_saved(network, tmp_path):
    torch.save({"network": network.state_dict(), "sizes": asdict(SIZES)}, tmp_path / "state.pt")
    loaded = load_network(tmp_path / "state.pt")
    assert loaded.sizes == SIZES
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_refuses_parameters_that_whisper_does_not_have(tmp_path):
    network = make_network(SIZES)
    network.encoder.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"model\.encoder\.extra\.weight"):
        export(network, tmp_path)
