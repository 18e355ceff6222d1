"""CTranslate2 folders: what they hold, their way back to Hugging Face's form, and how wrong ones are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
from ctranslate2.specs import TransformerSpec, WhisperSpec
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from serve_app.errors import ModelLoadingError
from serve_app.models.file_hashes import sha256_of
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.models.speech.whisper.conversion import in_hugging_face_form, to_ctranslate2, to_hugging_face, to_openai
from tests.fetched_models import fetched_folder

Copy = Callable[..., Path]
PROJECT = Path(__file__).parents[5]
# model.safetensors of openai/whisper-base @ e37978b9 and openai/whisper-tiny.en @ 87c71024
OFFICIAL = {
    "whisper-base": "07cadb9f25677c8d50df603e66a98fbd842cce45047139baeb16e6219a1e807b",
    "whisper-tiny.en": "db59695928ded6043adaef491a53ef4e12da9611184d77c53baa691a60b958ad",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def convert(mini_whisper: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what makes a CTranslate2 folder of the tiny checkpoint by CTranslate2's own converter, in a format."""

    def made(number_format: str) -> Path:
        folder = tmp_path_factory.getbasetemp() / "ctranslate2" / f"mini-{number_format}"
        if not folder.exists():
            source = open_checkpoint(mini_whisper, cache_dir=cache)
            if number_format in ("float32", "bfloat16"):
                source = in_format(mini_whisper, number_format, cache)
            shutil.copytree(to_ctranslate2(source, cache, number_format), folder)
        return folder

    return made


def in_format(folder: Path, number_format: str, cache: Path) -> WhisperCheckpoint:
    """Return a copy of a checkpoint whose numbers need the whole of another format."""
    other = cache / f"mini-{number_format}"
    shutil.copytree(folder, other)
    state = load_file(folder / "model.safetensors")
    dtype = getattr(torch, number_format)
    changed = {name: (tensor.float() * 1.001).to(dtype) for name, tensor in state.items()}
    save_file(changed, other / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(other, cache_dir=cache)


@pytest.fixture(scope="module")
def half(convert: Callable[[str], Path]) -> Path:
    return convert("float16")


@pytest.fixture
def changed(half: Path, copy_of: Copy) -> Path:
    return copy_of(half)


def edit_json(path: Path, **changes: Any) -> None:
    """Set some keys; ... removes one."""
    content = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}), "utf-8")


@pytest.mark.slow
def test_it_says_what_its_original_says(half: Path, mini_whisper: Path) -> None:
    original, found = open_checkpoint(mini_whisper), open_checkpoint(half)
    assert (original.form, found.form) == (Form.HUGGING_FACE, Form.CTRANSLATE2)
    assert found.name == half.name
    assert found.number_format == "float16"
    assert found.languages == original.languages
    assert found.alignment_heads == original.alignment_heads
    assert found.is_multilingual
    assert (found.config["num_mel_bins"], found.config["vocab_size"]) == (80, 51_865)
    for name in found.config.keys() & original.config.keys():
        assert found.config[name] == original.config[name], name
    for name in found.generation_config.keys() & original.generation_config.keys():
        assert found.generation_config[name] == original.generation_config[name], name


def test_it_is_opened_without_torch(half: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from serve_app.models.speech.whisper.checkpoint import open_checkpoint\n"
        "open_checkpoint(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(half)], cwd=PROJECT, check=True, timeout=120)


@pytest.mark.parametrize("number_format", ["float16", "float32", "bfloat16"])
def test_the_way_back_gives_the_original_to_the_last_bit(
    number_format: str, convert: Callable[[str], Path], mini_whisper: Path, cache: Path
) -> None:
    original = mini_whisper if number_format == "float16" else cache / f"mini-{number_format}"
    found = open_checkpoint(convert(number_format), cache_dir=cache)
    assert found.number_format == number_format
    report = to_hugging_face(found, cache)
    # as OpenAI stores this vocabulary
    assert "-huggingface-float32-" in report.name
    wanted = load_file(original / "model.safetensors")
    tensors = load_file(report / "model.safetensors")
    assert tensors.keys() == wanted.keys() - {"proj_out.weight"}
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, wanted[name].float()), name


def test_what_is_made_of_it_is_a_whole_checkpoint(half: Path, mini_whisper: Path, cache: Path) -> None:
    found = in_hugging_face_form(open_checkpoint(half, name="mini", cache_dir=cache), cache)
    assert (found.form, found.name, found.number_format) == (Form.HUGGING_FACE, "mini", "float32")
    assert found.folder.parent == cache / "converted"
    assert in_hugging_face_form(found, cache) is found
    ours, original = (
        WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (found.folder, mini_whisper)
    )
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 80, 3000)).astype(np.float32))
    tokens = torch.tensor([[50_258, 50_259, 50_359, 50_363, 400]])
    with torch.no_grad():
        got, wanted = (model(mel, decoder_input_ids=tokens).logits for model in (ours, original))
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("number_format", ["int8", "int8_float16", "int16"])
def test_quantized_weights_become_what_ctranslate2_computes_with(
    number_format: str, convert: Callable[[str], Path], mini_whisper: Path, cache: Path
) -> None:
    """The error of quantizing stays; none is added: the same encoding as CTranslate2's in float32."""
    folder = convert(number_format)
    found = open_checkpoint(folder, cache_dir=cache)
    assert found.number_format == number_format.partition("_")[0]
    report = to_hugging_face(found, cache)
    ours = WhisperForConditionalGeneration.from_pretrained(report, dtype=torch.float32).eval()
    theirs = ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=1)
    mel = np.random.default_rng(0).standard_normal((1, 80, 3000)).astype(np.float32)
    with torch.no_grad():
        encoded = ours.get_encoder()(torch.from_numpy(mel)).last_hidden_state.numpy()
    np.testing.assert_allclose(encoded, np.array(theirs.encode(ctranslate2.StorageView.from_array(mel))), atol=1e-4)
    name = "model.decoder.embed_tokens.weight"
    rounded, exact = (load_file(at / "model.safetensors")[name].float() for at in (report, mini_whisper))
    steps = exact.abs().max() / 1024 if number_format == "int16" else exact.abs().amax(dim=1) / 127
    assert ((rounded - exact).abs().amax(dim=1) <= 0.51 * steps).all()
    assert not torch.equal(rounded, exact)


def test_an_openai_file_is_made_straight_from_it(half: Path, mini_whisper: Path, cache: Path, tmp_path: Path) -> None:
    report = to_openai(open_checkpoint(half, cache_dir=cache), tmp_path)
    direct = to_openai(open_checkpoint(mini_whisper, cache_dir=cache), cache)
    states = [torch.load(made, weights_only=True)["model_state_dict"] for made in (report, direct)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert report.stat().st_size < 1.05 * direct.stat().st_size  # no part is saved with its whole
    assert [path.name for path in (tmp_path / "converted").iterdir() if "huggingface" in path.name] == []


def test_a_projection_of_its_own_is_kept(mini_whisper: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(mini_whisper)
    state = load_file(folder / "model.safetensors")
    own = {"proj_out.weight": state["model.decoder.embed_tokens.weight"] * 2}
    save_file(state | own, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", tie_word_embeddings=False)
    converted = to_ctranslate2(open_checkpoint(folder, cache_dir=tmp_path), tmp_path)
    found = open_checkpoint(converted, cache_dir=tmp_path)
    assert found.config["tie_word_embeddings"] is False
    tensors = load_file(to_hugging_face(found, tmp_path) / "model.safetensors")
    assert torch.equal(tensors["proj_out.weight"], own["proj_out.weight"].float())


def test_where_both_forms_lie_together_hugging_faces_counts(half: Path, mini_whisper: Path, copy_of: Copy) -> None:
    folder = copy_of(mini_whisper)
    shutil.copy(half / "model.bin", folder)
    shutil.copy(half / "vocabulary.json", folder)
    assert open_checkpoint(folder).form is Form.HUGGING_FACE


def test_the_hash_follows_the_content_alone(half: Path, changed: Path) -> None:
    original = open_checkpoint(half).content_hash
    (changed / "README.md").write_text("what no backend reads")
    assert open_checkpoint(changed).content_hash == original
    edit_json(changed / "config.json", suppress_ids=[1])
    assert open_checkpoint(changed).content_hash != original


def test_languages_are_told_from_the_tokenizer_where_none_are_listed(changed: Path) -> None:
    edit_json(changed / "config.json", lang_ids=[], alignment_heads=None, suppress_ids=None)
    found = open_checkpoint(changed)
    assert len(found.languages) == 99
    assert found.alignment_heads == ((1, 0), (1, 1))  # the last half of the layers
    assert found.generation_config["suppress_tokens"] == []


def cut_off(folder: Path, left: float) -> None:
    path = folder / "model.bin"
    os.truncate(path, int(path.stat().st_size * left))


def lose(folder: Path, name: str) -> None:
    (folder / name).unlink()


def write(path: Path, text: str) -> None:
    path.write_text(text)


def append(folder: Path) -> None:
    with (folder / "model.bin").open("ab") as file:
        file.write(b"more")


def overwrite(folder: Path, offset_bytes: int, content: bytes) -> None:
    with (folder / "model.bin").open("r+b") as file:
        file.seek(offset_bytes)
        file.write(content)


def replace_once(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "model.bin"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))


BREAKS: list[tuple[Callable[[Path], None], str]] = [
    (
        lambda folder: cut_off(folder, 0.5),
        r"model\.bin is cut off or broken \(the file ends in decoder/embeddings/weight",
    ),
    (lambda folder: cut_off(folder, 0.9999), r"model\.bin is cut off or broken"),
    (lambda folder: os.truncate(folder / "model.bin", 10), r"cut off or broken \(the file ends in its header\)"),
    (lambda folder: os.truncate(folder / "model.bin", 0), r"cut off or broken \(the file ends in its header\)"),
    (append, r"cut off or broken \(bytes follow the last variable\)"),
    (lambda folder: overwrite(folder, 0, b"PK\x03\x04"), r"no CTranslate2 model of binary version 6"),
    (lambda folder: overwrite(folder, 0, b"\x05"), r"binary version 6 \(it begins with 5\)"),
    (lambda folder: overwrite(folder, 6, b"\xff"), r"cut off or broken \('utf-8' codec"),
    (lambda folder: overwrite(folder, 18, b"\x02"), r"kind 'WhisperSpec', revision 2, where WhisperSpec, revision 3"),
    (lambda folder: replace_once(folder, b"encoder/conv1/weight", b"encoder/conv9/weight"), r"has no encoder/conv1"),
    (
        lambda folder: replace_once(folder, b"encoder/num_heads", b"encoder/num_teeth"),
        r"lacks the number of heads of the encoder",
    ),
    (
        lambda folder: replace_once(folder, b"layer_1/ffn/linear_1/bias", b"layer_1/ffn/linear_1/bios"),
        r"no such variable for decoder/layer_1/ffn/linear_1/bias, where its other sizes need \[32\]",
    ),
    (lambda folder: lose(folder, "tokenizer.json"), r"has no tokenizer\.json; copy it"),
    (lambda folder: lose(folder, "vocabulary.json"), r"neither vocabulary\.json nor vocabulary\.txt"),
    (lambda folder: lose(folder, "config.json"), r"has no config\.json"),
    (lambda folder: write(folder / "tokenizer.json", "{}"), r"tokenizer\.json can't be read"),
    (lambda folder: write(folder / "config.json", "<html>"), r"config\.json can't be read as JSON"),
    (
        lambda folder: edit_json(folder / "config.json", suppress_ids=..., lang_ids=...),
        r"lacks lang_ids, suppress_ids:",
    ),
    (lambda folder: edit_json(folder / "config.json", lang_ids=["en"]), r"lang_ids is no list of token ids"),
    (lambda folder: edit_json(folder / "config.json", alignment_heads=[[9, 0]]), r"no heads of this decoder"),
    (lambda folder: edit_json(folder / "config.json", alignment_heads=[3]), r"no heads of this decoder"),
    (lambda folder: edit_json(folder / "preprocessor_config.json", feature_size=128), r"128 mel bins where the model"),
]


@pytest.mark.parametrize(("break_it", "says"), BREAKS, ids=[says for _, says in BREAKS])
def test_what_is_wrong_is_said(changed: Path, break_it: Callable[[Path], None], says: str) -> None:
    break_it(changed)
    with pytest.raises(ModelLoadingError, match=says):
        open_checkpoint(changed)


def test_a_spectrogram_need_not_be_told(changed: Path) -> None:
    lose(changed, "preprocessor_config.json")
    assert open_checkpoint(changed).config["num_mel_bins"] == 80


def test_another_kind_of_model_is_refused(changed: Path) -> None:
    spec = TransformerSpec.from_config(1, 2)
    assert spec.name != WhisperSpec(1, 1, 1, 1).name
    name = spec.name.encode()
    content = b"\x06\0\0\0" + (len(name) + 1).to_bytes(2, "little") + name + b"\0" + b"\x07\0\0\0" + bytes(8)
    (changed / "model.bin").write_bytes(content)
    with pytest.raises(ModelLoadingError, match=r"model of the kind 'TransformerSpec', revision 7, where WhisperSpec"):
        open_checkpoint(changed)


def test_a_scale_that_is_missing_is_said(convert: Callable[[str], Path], copy_of: Copy) -> None:
    folder = copy_of(convert("int8"))
    replace_once(folder, b"decoder/embeddings/weight_scale", b"decoder/embeddings/weight_scull")
    with pytest.raises(ModelLoadingError, match="no fitting scale for decoder/embeddings/weight"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_published_folders_become_openais_own_files(name: str, tmp_path: Path) -> None:
    found = open_checkpoint(fetched_folder(name), cache_dir=tmp_path)
    assert sha256_of(to_hugging_face(found, tmp_path) / "model.safetensors") == OFFICIAL[name]
