"""Single files of the hub: the real client against a hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from serve_app.models.catalog import CatalogFile, HubRepository
from serve_app.models.hub import HubSource
from serve_app.models.model_source import SourceFailed
from tests.unit.models.loopback_hub import COMMITS, Hub, hub_on_loopback
from tests.unit.models.made_models import catalog_file

CONTENT = b"weights" * 100_000
REPOSITORY = HubRepository("org/model", COMMITS["main"])
UNPINNED = CatalogFile("model.safetensors", None, None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_on_loopback(monkeypatch, tmp_path / "user") as serving:
        serving.files["model.safetensors"] = CONTENT
        yield serving


def source(told: list[tuple[str, int, int | None]] | None = None, token: str | None = None) -> HubSource:
    return HubSource(REPOSITORY, token, lambda *progress: told.append(progress) if told is not None else None)


def test_a_file_at_its_revision(hub: Hub, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    source(told, "hf_token").fetch(catalog_file("model.safetensors", CONTENT), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    assert told[-1] == ("model.safetensors", len(CONTENT), len(CONTENT))
    assert {path for _, path, _ in hub.requests if "resolve" in path} == {
        f"/org/model/resolve/{COMMITS['main']}/model.safetensors"
    }
    assert {token for _, _, token in hub.requests} == {"Bearer hf_token"}


def test_what_broke_off_goes_on_where_it_ended(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64 * 1024)  # what it writes at once
    hub.cut["model.safetensors"] = 300_000
    source().fetch(UNPINNED, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    [(name, begin)] = hub.ranges
    assert name == "model.safetensors"
    assert 0 < begin <= 300_000


def test_the_next_process_goes_on_too(hub: Hub, tmp_path: Path) -> None:
    parts = tmp_path / ".cache" / "huggingface" / "download"
    source().fetch(UNPINNED, tmp_path / "model.safetensors")
    [note] = parts.glob("*.metadata")
    # what a killed process leaves
    etag = note.read_text().splitlines()[1]
    from huggingface_hub._local_folder import get_local_download_paths

    note.unlink()
    (tmp_path / "model.safetensors").unlink()
    paths = get_local_download_paths(tmp_path, "model.safetensors")
    paths.incomplete_path(etag).write_bytes(CONTENT[:250_000])
    source().fetch(UNPINNED, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == CONTENT
    assert hub.ranges == [("model.safetensors", 250_000)]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_without_a_known_hash_is_held_to_the_hubs(hub: Hub, tmp_path: Path, name: str) -> None:
    source().fetch(CatalogFile(name, None, None), tmp_path / name)
    assert (tmp_path / name).read_bytes() == hub.files[name]
    (tmp_path / name).unlink()
    hub.sent[name] = b"X" * len(hub.files[name])
    with pytest.raises(
        SourceFailed, match="another hash than the hub publishes, and was refused and deleted"
    ) as caught:
        source().fetch(CatalogFile(name, None, None), tmp_path / name)
    assert not caught.value.gave_nothing
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("refusal", "told", "is_silent"),
    [
        ((403, "GatedRepo"), "it is gated: accept its terms .* HF_TOKEN", False),
        ((404, "RepoNotFound"), "no such repository or revision", False),
        ((404, "RevisionNotFound"), "no such repository or revision", False),
        ((500, ""), "it answers 500", False),
    ],
)
def test_what_the_hub_refuses(hub: Hub, tmp_path: Path, refusal: tuple[int, str], told: str, is_silent: bool) -> None:
    hub.refusal = refusal
    with pytest.raises(SourceFailed, match=told) as caught:
        source(token="hf_secret").fetch(UNPINNED, tmp_path / "model.safetensors")
    assert (caught.value.gave_nothing, caught.value.is_silent) == (True, is_silent)
    assert "hf_secret" not in caught.value.reason


def test_a_gated_download_of_a_repository_that_is_told(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = hub.answer

    def gated(handler: object, *, with_body: bool) -> None:
        hub.refusal = (401, "GatedRepo") if "resolve" in handler.path else None  # type: ignore[attr-defined]
        answer(handler, with_body=with_body)  # type: ignore[arg-type]

    monkeypatch.setattr(hub, "answer", gated)
    with pytest.raises(SourceFailed, match="it is gated"):
        source().fetch(UNPINNED, tmp_path / "model.safetensors")


def test_a_file_that_the_repository_does_not_have(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"it has no other\.bin"):
        source().fetch(CatalogFile("other.bin", None, None), tmp_path / "other.bin")


def test_a_hub_that_is_not_there_is_silent_at_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(SourceFailed, match=r"it can't be reached \(ConnectionError\)") as caught:
        source().fetch(UNPINNED, tmp_path / "model.safetensors")
    assert (caught.value.gave_nothing, caught.value.is_silent) == (True, True)


def test_offline_mode_asks_nothing(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceFailed, match="HF_HUB_OFFLINE forbids it") as caught:
        source().fetch(UNPINNED, tmp_path / "model.safetensors")
    assert not caught.value.is_silent
    assert hub.requests == []


def test_a_full_disk_is_told_as_it_is(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(OSError, match="No space left"):
        source().fetch(UNPINNED, tmp_path / "model.safetensors")


def test_labels() -> None:
    assert source().label == f"Hugging Face hub (org/model@{COMMITS['main'][:8]})"
    assert source().needed_bytes([catalog_file("a", b"xyz"), UNPINNED]) == 3
