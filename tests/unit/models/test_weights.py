"""What an operator may name a model by."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from serve_app.errors import ModelLoadingError
from serve_app.models import weights
from serve_app.models.catalog import catalog, find_model
from serve_app.models.weights import fetch_weights, weights_file, weights_name


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Stand in for every network fetch; return what was asked of them."""
    calls: list[tuple[object, ...]] = []
    for name in ("fetch_repository", "fetch_https", "fetch_storage", "fetch_model"):

        def fetch(*args: object, name: str = name, **options: object) -> Path | SimpleNamespace:
            calls.append((name, *args, *options.values()))
            return SimpleNamespace(path=Path("/fetched")) if name == "fetch_model" else Path("/fetched")

        monkeypatch.setattr(weights, name, fetch)
    return calls


def test_an_embedded_model_is_a_folder_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "micro").mkdir()
    monkeypatch.setitem(weights.EMBEDDED, "micro", tmp_path / "micro")
    assert fetch_weights("embedded:micro", tmp_path / "cache") == tmp_path / "micro"
    assert weights_name("embedded:micro") == "micro"


def test_an_unknown_embedded_model_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"No model 'whisper-huge' is embedded; there is .*whisper-micro"):
        fetch_weights("embedded:whisper-huge", tmp_path)


def test_an_embedded_model_that_was_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.EMBEDDED, "micro", tmp_path / "gone")
    with pytest.raises(ModelLoadingError, match="reinstall serve_app"):
        fetch_weights("embedded:micro", tmp_path)


def test_a_local_file_or_folder_is_used_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[object]
) -> None:
    (tmp_path / "models" / "whisper").mkdir(parents=True)
    (tmp_path / "drums.pth").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / "cache"
    assert fetch_weights(str(tmp_path / "drums.pth"), cache) == tmp_path / "drums.pth"
    assert fetch_weights("./drums.pth", cache) == tmp_path / "drums.pth"
    assert fetch_weights("~/drums.pth", cache) == tmp_path / "drums.pth"
    assert fetch_weights("models/whisper", cache) == tmp_path / "models" / "whisper"  # though it could be an id
    assert fetched == []
    assert not cache.exists()


@pytest.mark.parametrize("spec", ["/nowhere/whisper", "./nowhere/whisper", "large-v9", "", "a/b/c", "~no-such-user/x"])
def test_what_is_neither_a_path_nor_an_id_is_refused(spec: str, tmp_path: Path, fetched: list[object]) -> None:
    with pytest.raises(ModelLoadingError, match=r"no file or folder .* ORG/NAME") as caught:
        fetch_weights(spec, tmp_path)
    assert caught.value.detail.endswith(f"The catalog has {', '.join(model.name for model in catalog())}")
    assert fetched == []


@pytest.mark.parametrize("spec", ["whisper-base", "base", " base "])
def test_a_model_of_the_catalog_is_fetched(spec: str, tmp_path: Path, fetched: list[tuple[object, ...]]) -> None:
    assert fetch_weights(spec, tmp_path, "token", "https://mirror.example") == Path("/fetched")
    assert fetched == [("fetch_model", find_model("whisper-base"), tmp_path, "token", "https://mirror.example")]


def test_a_path_of_a_catalog_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[tuple[object, ...]]
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert fetch_weights("base", tmp_path / "cache") == tmp_path / "base"
    assert weights_name("base") == "base"
    assert fetched == []


@pytest.mark.parametrize(
    ("spec", "call"),
    [
        ("openai/whisper-small", ("fetch_repository", "openai/whisper-small", None, "hub", "token")),
        ("org/name.v2@refs/pr/3", ("fetch_repository", "org/name.v2", "refs/pr/3", "hub", "token")),
        (" https://host/m.pth#sha256=00 ", ("fetch_https", "https://host/m.pth#sha256=00", "downloads")),
        ("HTTP://host/m.pth", ("fetch_https", "HTTP://host/m.pth", "downloads")),
        ("s3://bucket/whisper", ("fetch_storage", "s3://bucket/whisper", "downloads")),
        ("gs://bucket/whisper/", ("fetch_storage", "gs://bucket/whisper/", "downloads")),
    ],
)
def test_the_rest_is_fetched_by_its_kind(
    spec: str, call: tuple[object, ...], tmp_path: Path, fetched: list[tuple[object, ...]]
) -> None:
    assert fetch_weights(spec, tmp_path, "token") == Path("/fetched")
    ((name, *args),) = fetched
    assert (name, *(arg.name if isinstance(arg, Path) else arg for arg in args)) == call


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("embedded:whisper-micro", "whisper-micro"),
        ("whisper-base", "whisper-base"),
        ("turbo", "whisper-large-v3-turbo"),
        ("pyannote-segmentation-3.0", "pyannote-segmentation-3.0"),
        ("openai/whisper-small", "openai/whisper-small"),
        ("openai/whisper-small@main", "openai/whisper-small@main"),
        ("/models/openai_whisper-large-v3-turbo/", "openai_whisper-large-v3-turbo"),
        ("https://user:secret@host/models/drums.pth?X-Amz-Signature=secret#sha256=00", "drums.pth"),
        ("s3://key:secret@bucket/whisper-small/", "whisper-small"),
        ("s3://key:secret@bucket", "bucket"),
    ],
)
def test_a_name_has_neither_folders_nor_secrets(spec: str, name: str) -> None:
    assert weights_name(spec) == name


@pytest.mark.parametrize("how", ["file", "folder", "in a folder", "loop"])
def test_a_link_that_leads_nowhere_is_named_with_its_target(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app" / "models").mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "x.pth").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "app")
    # `ln -s ../weights/x.pth models/x.pth`, as if the target were seen from here
    target, link, spec = "../weights/x.pth", Path("models/x.pth"), "models/x.pth"
    meant = tmp_path / "app" / "weights" / "x.pth"
    if how == "folder":
        target, link, spec = "weights", Path("models/w"), "models/w/x.pth"
        meant = tmp_path / "app" / "models" / "weights"
    elif how == "in a folder":
        spec = "./models"
    elif how == "loop":
        target, meant = "x.pth", tmp_path / "app" / "models" / "x.pth"
    link.symlink_to(target)
    with pytest.raises(ModelLoadingError) as caught:
        weights_file(spec, tmp_path / "cache", what="weights", usual_name="x.pth", endings=(".pth",))
    named = {"folder": "models/w", "in a folder": str(tmp_path / "app/models/x.pth")}.get(how, "models/x.pth")
    assert caught.value.detail.startswith(f"{named!r} is a link to {target!r}, and there is nothing at {str(meant)!r}")
    if how == "file":
        with pytest.raises(ModelLoadingError, match="is a link to"):
            fetch_weights("./models/x.pth", tmp_path / "cache")
        link.unlink()
        link.symlink_to("../../weights/x.pth")
        assert fetch_weights("models/x.pth", tmp_path / "cache") == tmp_path / "weights" / "x.pth"
