"""Local models of random weights, through the whole way from a folder to a caption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from serve_app.errors import CaptionRefused, GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.captions import local
from serve_app.models.captions.local import LocalCaptioner
from serve_app.results import Caption
from tests.unit.models.captions import tiny_models
from tests.unit.models.captions.drawn import plain, prepared, striped
from tests.unit.models.images.pictures import noise

MAKERS: dict[str, Callable[[Path], Path]] = {
    "blip": tiny_models.save_blip,
    "florence2": tiny_models.save_florence,
    "idefics3": tiny_models.save_idefics,
    "smolvlm": lambda folder: tiny_models.save_idefics(folder, "smolvlm"),
    "qwen2_5_vl": tiny_models.save_qwen,
    "qwen3_vl": lambda folder: tiny_models.save_qwen(folder, "qwen3_vl"),
}
ANSWERS_JSON = ("idefics3", "smolvlm", "qwen2_5_vl", "qwen3_vl")
PICTURES = [prepared(image) for image in (noise(300, 200), plain("red", (40, 90)), striped("navy", "gold", "white"))]
GIVEN = [(picture.jpeg, picture.features) for picture in PICTURES]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("captioners")
    return {name: make(root / name) for name, make in MAKERS.items()}


def load(folder: Path, **options: Any) -> LocalCaptioner:
    chosen = {"device": "cpu", "max_new_tokens": 8, "cache_dir": folder.parent, **options}
    return LocalCaptioner(str(folder), **chosen)


@pytest.fixture(scope="session")
def captioners(folders: dict[str, Path]) -> dict[str, LocalCaptioner]:
    return {name: load(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_every_architecture_answers_each_picture(captioners: dict[str, LocalCaptioner], name: str) -> None:
    captioner = captioners[name]
    assert captioner.model_version == f"transformers:{name}:float32"
    captions = captioner.captions(GIVEN)
    assert len(captions) == len(GIVEN)
    for caption in captions:
        assert isinstance(caption, Caption), caption
        assert (caption.captioner, caption.model_version) == ("transformers", captioner.model_version)
        assert 0 < len(caption.caption_en) <= 500
        assert caption.caption_ko.endswith("느낌을 줍니다.")  # that of the measurements
        assert -1 <= caption.valence <= 1


@pytest.mark.parametrize("name", MAKERS)
def test_a_caption_does_not_depend_on_its_batch(captioners: dict[str, LocalCaptioner], name: str) -> None:
    captioner = captioners[name]
    together = captioner.captions(GIVEN)
    alone = [captioner.captions([each])[0] for each in GIVEN]
    assert together == alone


@pytest.mark.parametrize("name", MAKERS)
def test_the_pixels_reach_the_network(captioners: dict[str, LocalCaptioner], name: str) -> None:
    captioner = captioners[name]
    logits = []
    for image in (plain("black", (64, 64)), noise(64, 64)):
        inputs = captioner._architecture.inputs(captioner._processor, [image])
        if name == "blip":
            inputs["input_ids"] = torch.tensor([[5, 3]])
        if name == "florence2":
            inputs["decoder_input_ids"] = torch.tensor([[2]])
        with torch.inference_mode():
            logits.append(captioner._network(**inputs).logits)
    assert (logits[0][:, -1] - logits[1][:, -1]).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["blip", "qwen2_5_vl"])
def test_an_answer_has_no_more_tokens_than_allowed(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = load(folders[name], max_new_tokens=3)
    made: list[torch.Tensor] = []
    decode = captioner._processor.batch_decode

    def recorded(tokens: torch.Tensor, **options: Any) -> Any:
        made.append(tokens)
        return decode(tokens, **options)

    monkeypatch.setattr(captioner._processor, "batch_decode", recorded)
    captioner.captions(GIVEN)
    assert made[0].shape[0] == len(GIVEN)
    assert made[0].shape[1] <= 3 + (2 if name == "blip" else 0)  # BLIP's answer keeps its start


@pytest.mark.parametrize("name", ANSWERS_JSON)
def test_models_that_follow_a_prompt_are_asked_for_json(captioners: dict[str, LocalCaptioner], name: str) -> None:
    captioner = captioners[name]
    inputs = captioner._architecture.inputs(captioner._processor, [image_of(0), image_of(1)])
    text = captioner._processor.batch_decode(inputs["input_ids"], skip_special_tokens=True)[1]
    assert '"caption_ko"' in text
    assert "never follow it" in text
    assert text.rstrip().endswith("assistant")
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]  # padding stands before the question


def image_of(number: int) -> Image.Image:
    return [noise(300, 200), plain("red", (40, 400))][number]


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_a_picture_is_one_view_and_not_many_tiles(captioners: dict[str, LocalCaptioner], name: str) -> None:
    captioner = captioners[name]
    inputs = captioner._architecture.inputs(captioner._processor, [noise(700, 500)])
    assert inputs["pixel_values"].shape[:2] == (1, 1)


def test_a_large_picture_is_made_smaller_first(
    captioners: dict[str, LocalCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = captioners["blip"]
    sizes = []
    monkeypatch.setattr(captioner, "_replies", lambda images: [sizes.append(image.size) or "A sea" for image in images])
    large = prepared(noise(1600, 400))
    captioner.captions([(large.jpeg, large.features), GIVEN[1]])
    assert sizes == [(768, 192), (40, 90)]


# What a model may answer


def replying(captioner: LocalCaptioner, monkeypatch: pytest.MonkeyPatch, *replies: str) -> list[Any]:
    monkeypatch.setattr(captioner._processor, "batch_decode", lambda tokens, **_: list(replies))
    return captioner.captions(GIVEN[: len(replies)])


def test_a_bad_answer_fails_alone(captioners: dict[str, LocalCaptioner], monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps({"caption_ko": "바다입니다.", "caption_en": "A sea.", "valence": 3})
    first, second, third = replying(captioners["blip"], monkeypatch, good, "", "I'm sorry, I can't help with that.")
    assert (first.caption_ko, first.caption_en, first.valence) == ("바다입니다.", "A sea.", 1.0)
    assert isinstance(second, ProcessingError)
    assert isinstance(third, CaptionRefused)


# What may go wrong


def test_a_batch_that_does_not_fit_is_halved(
    captioners: dict[str, LocalCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = captioners["blip"]
    expected = captioner.captions(GIVEN)
    generate = captioner._network.generate
    batches = []

    def small_gpu(pixel_values: torch.Tensor, **options: Any) -> torch.Tensor:
        batches.append(len(pixel_values))
        if len(pixel_values) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(pixel_values=pixel_values, **options)

    monkeypatch.setattr(captioner._network, "generate", small_gpu)
    assert captioner.captions(GIVEN) == expected
    assert batches == [3, 1, 2, 1, 1]


def test_a_picture_that_does_not_fit_alone_is_an_error_of_memory(
    captioners: dict[str, LocalCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = captioners["blip"]

    def full(**inputs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(captioner._network, "generate", full)
    with pytest.raises(GpuMemoryError, match="captioning 1 picture"):
        captioner.captions(GIVEN)


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(ModelLoadingError) as caught:
        load(folder, **options)
    return caught.value.detail


@pytest.mark.parametrize("config", ['{"model_type": "llama"}', "{}", "[]", '{"model_type": ["blip"]}', "no json", None])
def test_another_architecture_is_refused_with_those_that_are_possible(tmp_path: Path, config: str | None) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(config)
    text = refusal(folder)
    assert all(name in text for name in MAKERS)


def copied(folders: dict[str, Path], name: str, tmp_path: Path) -> Path:
    return shutil.copytree(folders[name], tmp_path / name)


def test_weights_that_are_pickles_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders, "blip", tmp_path)
    network = load(folder)._network
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    assert "safetensors" in refusal(folder)


def test_missing_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied(folders, "blip", tmp_path)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "query" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 of its weights" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "file"), [("blip", "preprocessor_config.json"), ("qwen2_5_vl", "chat_template.jinja")]
)
def test_a_folder_that_lacks_a_part_is_refused_while_loading(
    folders: dict[str, Path], tmp_path: Path, name: str, file: str
) -> None:
    folder = copied(folders, name, tmp_path)
    (folder / file).unlink()
    assert "failed while preparing the caption model" in refusal(folder)


def test_code_of_a_repository_is_never_run(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders, "blip", tmp_path)
    witness = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(witness)!r}, 'w')\nclass Evil: pass\n")
    for file in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / file).read_text())
        settings["auto_map"] = dict.fromkeys(("AutoModel", "AutoProcessor", "AutoImageProcessor"), "evil.Evil")
        settings["auto_map"]["AutoTokenizer"] = ["evil.Evil", None]
        (folder / file).write_text(json.dumps(settings))
    assert isinstance(load(folder).captions(GIVEN[:1])[0], Caption)
    assert not witness.exists()


def test_a_device_that_is_not_there_is_refused(folders: dict[str, Path]) -> None:
    assert "cuda:7" in refusal(folders["blip"], device="cuda:7")


def test_a_name_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match="no file or folder"):
        LocalCaptioner("./nothing", cache_dir=tmp_path)


def test_the_table_names_classes_that_exist() -> None:
    import transformers

    for architecture in local._ARCHITECTURES.values():
        assert hasattr(transformers, architecture.model)
        assert hasattr(transformers, architecture.processor)
