"""OpenAI's `.pt` files: what they are told to hold, and how wrong ones are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import whisper
import whisper.tokenizer
from safetensors.torch import load_file

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper import openai_reader
from serve_app.models.speech.whisper.checkpoint import open_checkpoint
from serve_app.models.speech.whisper.checkpoint_files import Form, read_json
from serve_app.models.speech.whisper.conversion import to_ctranslate2, to_hugging_face, to_openai
from serve_app.models.speech.whisper.tokens import WhisperTokens
from tests.fetched_models import fetched_folder

PROJECT = Path(__file__).parents[5]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def file(mini_whisper: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as a `.pt` file, float16."""
    path = to_openai(open_checkpoint(mini_whisper, cache_dir=cache), cache)
    return Path(shutil.copy(path, tmp_path_factory.mktemp("openai") / "mini.pt"))


@pytest.mark.slow
def test_it_says_what_its_original_says(file: Path, mini_whisper: Path, cache: Path) -> None:
    original, found = open_checkpoint(mini_whisper), open_checkpoint(file, cache_dir=cache)
    assert (found.form, found.name, found.number_format) == (Form.OPENAI, "mini.pt", "float16")
    assert found.weights == (file,)
    assert found.languages == original.languages
    assert found.alignment_heads == original.alignment_heads  # of a shape that nobody published: the last half
    for name in found.config.keys() & original.config.keys():
        assert found.config[name] == original.config[name], name
    for name in (found.generation_config.keys() & original.generation_config.keys()) - {"suppress_tokens"}:
        assert found.generation_config[name] == original.generation_config[name], name
    assert WhisperTokens(found).previous(" two") == WhisperTokens(original).previous(" two")


def test_what_nobody_speaks_is_suppressed(file: Path, cache: Path) -> None:
    theirs = whisper.tokenizer.get_tokenizer(True)
    tokens = WhisperTokens(open_checkpoint(file, cache_dir=cache))
    assert set(tokens.suppressed) > set(theirs.non_speech_tokens)
    assert theirs.eot not in tokens.suppressed
    assert tokens.no_speech == theirs.no_speech


def test_the_way_back_gives_the_original_to_the_last_bit(file: Path, mini_whisper: Path, cache: Path) -> None:
    tensors = load_file(to_hugging_face(open_checkpoint(file, cache_dir=cache), cache) / "model.safetensors")
    wanted = load_file(mini_whisper / "model.safetensors")
    assert tensors.keys() == wanted.keys() - {"proj_out.weight"}
    assert all(torch.equal(tensors[name], wanted[name].float()) for name in tensors)


def test_ctranslate2_stores_it_in_its_own_format(file: Path, mini_whisper: Path, cache: Path) -> None:
    found = to_ctranslate2(open_checkpoint(file, cache_dir=cache), cache)
    direct = to_ctranslate2(open_checkpoint(mini_whisper, cache_dir=cache), cache)
    assert "-ctranslate2-float16-" in found.name
    assert (found / "model.bin").read_bytes() == (direct / "model.bin").read_bytes()


def test_the_description_is_kept_and_read_without_torch(file: Path, cache: Path) -> None:
    first = open_checkpoint(file, cache_dir=cache)
    assert first.folder.parent == cache / "described"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from serve_app.models.speech.whisper.checkpoint import open_checkpoint\n"
        "print(open_checkpoint(Path(sys.argv[1]), cache_dir=Path(sys.argv[2])).folder)\n"
        "assert 'torch' not in sys.modules\n"
    )
    arguments = [sys.executable, "-c", code, str(file), str(cache)]
    answer = subprocess.run(arguments, cwd=PROJECT, check=True, timeout=120, capture_output=True, text=True)
    assert answer.stdout.strip() == str(first.folder)


def test_without_a_cache_it_is_refused(file: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"mini\.pt has no tokenizer; give a cache folder"):
        open_checkpoint(file)


def lose_dims(content: dict[str, Any]) -> None:
    del content["dims"]


def lose_a_dim(content: dict[str, Any]) -> None:
    del content["dims"]["n_mels"]


def lose_a_tensor(content: dict[str, Any]) -> None:
    del content["model_state_dict"]["decoder.ln.bias"]


def widen(content: dict[str, Any]) -> None:
    content["dims"] |= {"n_audio_state": 64, "n_text_state": 64}


def widen_one_side(content: dict[str, Any]) -> None:
    content["dims"]["n_audio_state"] = 64


def take_another_vocabulary(content: dict[str, Any]) -> None:
    content["dims"]["n_vocab"] = 51_870


def quantize(content: dict[str, Any]) -> None:
    state = content["model_state_dict"]
    state["decoder.ln.bias"] = state["decoder.ln.bias"].to(torch.int8)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lose_dims, "holds no Whisper in OpenAI's form: it lacks dims or model_state_dict"),
        (lose_a_dim, r"lacks n_mels in its dims"),
        (lose_a_tensor, r"holds nothing for the tensor decoder\.ln\.bias, where its dims need \[32\]"),
        (widen, r"holds torch\.float16, \[32, 80, 3\] for the tensor encoder\.conv1\.weight.*\[64, 80, 3\]"),
        (widen_one_side, "encoder and a decoder of different widths"),
        (take_another_vocabulary, r"vocabulary of 51870 tokens, where OpenAI's models have 51864, 51865, 51866"),
        (quantize, r"holds torch\.int8, \[32\] for the tensor decoder\.ln\.bias"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    file: Path, cache: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(ModelLoadingError, match=says):
        open_checkpoint(tmp_path / "wrong.pt", cache_dir=cache)
    assert not list((cache / "described").glob("*.building"))


def test_a_file_that_is_cut_off_or_something_else_is_refused(file: Path, cache: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copy(file, tmp_path / "cut.pt"))
    for length in (damaged.stat().st_size // 2, 10, 0):
        os.truncate(damaged, length)
        with pytest.raises(ModelLoadingError, match=r"cut\.pt can't be read as OpenAI's form"):
            open_checkpoint(damaged, cache_dir=cache)
    other = tmp_path / "model.bin"
    other.write_bytes(b"any")
    with pytest.raises(
        ModelLoadingError, match=r"model\.bin is a file, and no \.pt of openai-whisper; name the folder"
    ):
        open_checkpoint(other, cache_dir=cache)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/serve_app_was_here",)


def test_code_in_a_file_is_not_run(file: Path, cache: Path, tmp_path: Path) -> None:
    torch.save(torch.load(file, weights_only=True) | {"extra": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(
        ModelLoadingError,
        match=r"can't be read as OpenAI's form of a Whisper: it holds Python objects \(posix\.system\)",
    ):
        open_checkpoint(tmp_path / "evil.pt", cache_dir=cache)
    assert not Path("/tmp/serve_app_was_here").exists()


def shape(layers: int, decoder_layers: int, heads: int, vocab_size: int = 51_865, width: int = 64) -> dict[str, Any]:
    return {
        "encoder_layers": layers,
        "decoder_layers": decoder_layers,
        "decoder_attention_heads": heads,
        "d_model": width * heads,
        "vocab_size": vocab_size,
    }


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (shape(4, 4, 6), "tiny"),
        (shape(4, 4, 6, 51_864), "tiny.en"),
        (shape(6, 6, 8), "base"),
        (shape(12, 12, 12), "small"),
        (shape(24, 24, 16, 51_864), "medium.en"),
        (shape(32, 32, 20, 51_866), "large-v3"),
        (shape(32, 4, 20, 51_866), "large-v3-turbo"),
        (shape(32, 32, 20), None),  # large-v1 or large-v2
        (shape(12, 4, 12, 51_864), None),  # distil-small.en has as many heads as base.en, in other layers
        (shape(4, 4, 6, width=32), None),
    ],
)
def test_alignment_heads_are_those_of_the_published_shape(config: dict[str, Any], name: str | None) -> None:
    found = openai_reader._alignment_heads(config, "0" * 64)
    if name is None:
        assert found is None
        return
    audio = {"n_mels": 1, "n_audio_ctx": 1, "n_audio_state": 4, "n_audio_head": 1, "n_audio_layer": 1}
    text = {"n_vocab": 1, "n_text_ctx": 1, "n_text_state": 4, "n_text_head": config["decoder_attention_heads"]}
    sizes = whisper.ModelDimensions(**audio, **text, n_text_layer=config["decoder_layers"])
    model = whisper.model.Whisper(sizes)
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS[name])
    assert found == model.alignment_heads.to_dense().nonzero().tolist()


@pytest.mark.parametrize("name", ["large-v1", "large-v2"])
def test_a_published_file_is_known_by_its_hash(name: str) -> None:
    sha256 = whisper._MODELS[name].split("/")[-2]
    found = openai_reader._alignment_heads(shape(32, 32, 20), sha256)
    assert found is not None
    assert found != openai_reader._alignment_heads(shape(32, 32, 20, 51_866), "0" * 64)


@pytest.mark.parametrize("name", ["whisper-base", "whisper-tiny.en"])
def test_a_real_model_is_described_as_it_is_published(name: str, tmp_path: Path) -> None:
    published = open_checkpoint(fetched_folder(name), cache_dir=tmp_path)
    found = open_checkpoint(to_openai(published, tmp_path), cache_dir=tmp_path)
    assert found.alignment_heads == published.alignment_heads
    assert found.languages == published.languages
    assert found.generation_config == published.generation_config
    assert WhisperTokens(found).suppressed == WhisperTokens(published).suppressed
    described = read_json(found.folder / "config.json")
    assert described == {**published.config, "dtype": "float16"}
