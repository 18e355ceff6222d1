"""From a training checkpoint to a Hugging Face folder that every Whisper backend reads."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from training.whisper_micro.checkpoint import Shape, model_config, write_checkpoint
from training.whisper_micro.grammar import LANGUAGES
from training.whisper_micro.network import MicroWhisper, Sizes
from training.whisper_micro.rows import Rows
from training.whisper_micro.train import make_network

_EMBEDDING = "model.decoder.embed_tokens.weight"


def load_network(state: Path) -> MicroWhisper:
    """Return the network of a training checkpoint (`state.pt`)."""
    saved = torch.load(state, map_location="cpu", weights_only=True)
    network = make_network(Sizes(**saved["sizes"]))
    network.load_state_dict(saved["network"])
    return network


def export(network: MicroWhisper, folder: Path) -> None:
    """Write the network as float16, with the row of unused ids copied to each of them."""
    sizes = network.sizes
    shape = Shape(sizes.d_model, sizes.encoder_layers, sizes.decoder_layers, sizes.heads)
    model = WhisperForConditionalGeneration(model_config(shape))
    model.config.languages = list(LANGUAGES)  # those that it was made for; our backends refuse any other
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("phones.")}
    weights = {f"model.{name}": value for name, value in own.items()}
    weights[_EMBEDDING] = whole_embedding(weights[_EMBEDDING], shape.vocab_size)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing != ["proj_out.weight"] or unexpected:  # tied to the embedding
        raise ValueError(f"parameters do not match: {missing} are missing, {unexpected} are not known")
    model.tie_weights()
    heads = [(sizes.decoder_layers - 1, head) for head in range(sizes.guided_heads)]
    write_checkpoint(folder, model.half(), heads)


def whole_embedding(rows: Tensor, vocab_size: int) -> Tensor:
    """Return a row for each id: its own if it is in use, else the shared one. (vocab_size, width)."""
    whole = rows[-1].repeat(vocab_size, 1)
    whole[torch.tensor(Rows().ids)] = rows[:-1]
    return whole
