"""Repositories of the Hugging Face hub: the real client against a hub of our own on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from serve_app.errors import ModelLoadingError
from serve_app.models.hub import choose_files, fetch_repository
from tests.unit.models.loopback_hub import COMMITS, Hub, hub_on_loopback


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_on_loopback(monkeypatch, tmp_path) as serving:
        yield serving


def test_only_what_a_model_is_loaded_from_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.files |= {"pytorch_model.bin": b"the same, pickled", "tf_model.h5": b"the same again", "README.md": b"card"}
    folder = fetch_repository("org/model", None, tmp_path / "hub", "hf_token")
    assert hub.downloads() == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert folder.is_relative_to(tmp_path / "hub")
    assert {token for _, _, token in hub.requests} == {"Bearer hf_token"}


def test_nothing_is_fetched_twice(hub: Hub, tmp_path: Path) -> None:
    first = fetch_repository("org/model", None, tmp_path, None)
    hub.requests.clear()
    assert fetch_repository("org/model", None, tmp_path, None) == first
    assert hub.downloads() == []


def test_a_revision_is_pinned(hub: Hub, tmp_path: Path) -> None:
    assert fetch_repository("org/model", "v2", tmp_path, None).name == COMMITS["v2"]
    assert fetch_repository("org/model", None, tmp_path, None).name == COMMITS["main"]


def test_an_unknown_revision_is_said(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match="org/model has no revision 'v9'"):
        fetch_repository("org/model", "v9", tmp_path, None)


def test_a_gated_model_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    hub.refusal = (403, "GatedRepo")
    with pytest.raises(ModelLoadingError, match=r"org/model is gated: accept its terms .* HF_TOKEN"):
        fetch_repository("org/model", None, tmp_path, None)


def test_an_unknown_model_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"shows no model org/other: .*HF_TOKEN if it is private"):
        fetch_repository("org/other", None, tmp_path, None)


def test_a_refused_token_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    hub.refusal = (403, "")
    with pytest.raises(ModelLoadingError, match=r"org/model may not be read \(403\); set HF_TOKEN") as raised:
        fetch_repository("org/model", None, tmp_path, "hf_secret")
    assert "hf_secret" not in raised.value.detail


def test_a_repository_without_weights_is_said(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": b"{}", "README.md": b""}
    with pytest.raises(ModelLoadingError, match="org/model on the Hugging Face hub holds no weights"):
        fetch_repository("org/model", None, tmp_path, None)


@pytest.mark.parametrize("cache", ["ours", "users-own"])
def test_without_the_hub_what_was_fetched_before_serves(
    hub: Hub, tmp_path: Path, cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = fetch_repository("org/model", None, tmp_path / cache, None)
    hub.refusal = (503, "")
    assert fetch_repository("org/model", None, tmp_path / "ours", None) == before
    assert "org/model: the hub gave no answer" in caplog.text


def test_a_download_that_breaks_off_is_not_taken_for_the_model(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(repository: str, *, local_files_only: bool = False, **options: object) -> str:
        if not local_files_only:
            download(repository, **(options | {"allow_patterns": ["config.json"]}))
            raise LocalEntryNotFoundError("the connection broke")
        return download(repository, local_files_only=True, **options)

    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", break_off)
    with pytest.raises(ModelLoadingError, match="org/model"):
        fetch_repository("org/model", None, tmp_path, None)


def test_without_the_hub_and_a_copy_it_says_what_to_do(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ModelLoadingError, match=r"hub can't be reached \(ConnectionError\).* local folder"):
        fetch_repository("org/model", None, tmp_path, None)


def test_the_answer_of_a_broken_hub_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.refusal = (502, "")
    with pytest.raises(ModelLoadingError, match=r"hub can't be reached \(answer 502\)"):
        fetch_repository("org/model", None, tmp_path, None)


def test_offline_mode_is_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.configure_http_backend()  # sessions are kept, and the mode is theirs
    try:
        with pytest.raises(ModelLoadingError, match="HF_HUB_OFFLINE forbids it"):
            fetch_repository("org/model", None, tmp_path, None)
    finally:
        monkeypatch.undo()
        huggingface_hub.configure_http_backend()
    assert hub.requests == []


SMALL = ["config.json", "generation_config.json", "merges.txt", "spiece.model", "tokenizer.json"]


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin", "model.fp32-00001-of-00002.safetensors"], ["model.safetensors"]),
        (
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (["pytorch_model.bin", "flax_model.msgpack"], ["pytorch_model.bin"]),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
        (["drums.pth", "onnx/model.onnx"], ["drums.pth"]),
        (["unet/model.safetensors"], None),
        ([], None),
    ],
)
def test_weights_are_chosen_in_one_form(weights: list[str], chosen: list[str] | None) -> None:
    names = [*SMALL, "README.md", ".gitattributes", "sub/config.json", *weights]
    assert choose_files(names) == ([] if chosen is None else sorted(SMALL + chosen))
