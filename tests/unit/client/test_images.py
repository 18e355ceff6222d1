"""Pictures and their models through the client, against the real app on a real socket."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from serve_app import errors
from serve_app.client import Client
from serve_app.services import DeployedModel
from tests.unit.api.memory_services import REPLICA_MODEL, VERSION, MemoryImages, MemoryModels

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def images(running: tuple[FastAPI, str], client: Client) -> MemoryImages:
    return running[0].state.services.images


@pytest.fixture
def models(running: tuple[FastAPI, str], client: Client) -> MemoryModels:
    return running[0].state.services.models


@pytest.fixture(params=["classify_reusable", "verify_beverage"])
def ask(request: pytest.FixtureRequest, client: Client) -> Ask:
    return getattr(client, request.param)


class TestClassifyReusable:
    def test_file(self, client: Client, images: MemoryImages, tmp_path: Path) -> None:
        path = tmp_path / "컵 1.jpg"
        path.write_bytes(b"\xff\xd8picture")
        for source in (path, str(path)):
            assert client.classify_reusable(source) == {
                "is_reusable": True,
                "confidence": 0.92,
                "predicted_class": "reusable",
                "probabilities": {"disposable": 0.08, "reusable": 0.92},
                "message": "✅ Reusable container detected (confidence: 92.0%)",
            }
        assert images.asked == [("container", [b"\xff\xd8picture"])] * 2

    def test_open_file(self, client: Client, images: MemoryImages, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(b"on disk")
        with path.open("rb") as opened:
            assert client.classify_reusable(opened)["is_reusable"] is True
        assert client.classify_reusable(io.BytesIO(b"in memory"))["is_reusable"] is True
        assert [seen for _, seen in images.asked] == [[b"on disk"], [b"in memory"]]

    def test_address(self, client: Client, images: MemoryImages) -> None:
        url = "https://bucket.example/컵.jpg?X-Amz-Signature=a%2Fb"
        assert client.classify_reusable(image_url=url)["predicted_class"] == "reusable"
        assert images.asked == [("container", [url])]


class TestVerifyBeverage:
    def test_file(self, client: Client, images: MemoryImages, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(b"picture")
        assert client.verify_beverage(path) == {
            "has_beverage": True,
            "confidence": 0.88,
            "predicted_class": "with_beverage",
            "is_valid": True,
            "probabilities": {"empty": 0.05, "with_beverage": 0.88, "unclear": 0.07},
            "message": "Beverage detected - Valid usage",
        }
        assert images.asked == [("beverage", [b"picture"])]

    @pytest.mark.parametrize(("threshold", "is_valid"), [(0.88, True), (0.9, False), (0, True), (1, False)])
    def test_threshold(self, client: Client, threshold: float, is_valid: bool) -> None:
        picture = io.BytesIO(b"x")
        assert client.verify_beverage(picture, confidence_threshold=threshold)["is_valid"] is is_valid
        by_url = client.verify_beverage(image_url="https://h/a", confidence_threshold=threshold)
        assert by_url["is_valid"] is is_valid

    def test_threshold_out_of_bounds(self, client: Client) -> None:
        with pytest.raises(errors.InvalidRequest, match="confidence_threshold"):
            client.verify_beverage(io.BytesIO(b"x"), confidence_threshold=1.5)


def test_either_a_file_or_an_address(ask: Ask, images: MemoryImages) -> None:
    for given in ((), (io.BytesIO(b"x"), "https://h/a")):
        with pytest.raises(errors.InvalidRequest, match="either a file or image_url"):
            ask(*given[:1], image_url=given[1] if given else None)
    assert images.asked == []  # nothing was sent


@pytest.mark.parametrize(
    "error",
    [
        errors.ImageUnreadable("no picture"),
        errors.ImageTooLarge("too many pixels"),
        errors.DownloadError("404 Not Found"),
        errors.DownloadInterrupted("503 Busy"),
        errors.MediaTooLarge("too long"),
        errors.ProcessingError("x"),
        errors.ModelLoadingError("x"),
        errors.GpuMemoryError("x"),
        errors.Unavailable("starting", 3.0),
        errors.Overloaded("full", 4.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failures_are_the_errors_of_the_tree(ask: Ask, images: MemoryImages, error: errors.ServeAppError) -> None:
    images.failures = {b"x": error, "https://h/a": error}
    for given in ({"file": io.BytesIO(b"x")}, {"image_url": "https://h/a"}):
        with pytest.raises(type(error)) as caught:
            ask(**given)
        assert type(caught.value) is type(error)
        assert error.detail in caught.value.detail
        assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_refused_address_is_a_failed_download(ask: Ask, images: MemoryImages) -> None:
    images.failures = {"http://10.0.0.1/a": errors.AddressRefused("a private address")}
    with pytest.raises(errors.DownloadError, match="a private address"):
        ask(image_url="http://10.0.0.1/a")


def test_full_service(ask: Ask, images: MemoryImages) -> None:
    images.busy = errors.Unavailable("busy", 2.0)
    with pytest.raises(errors.Unavailable) as caught:
        ask(io.BytesIO(b"x"))
    assert (caught.value.detail, caught.value.retry_after_s) == ("busy", 2.0)


def test_refusals_of_the_service(ask: Ask, images: MemoryImages) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"body\.file: The file is empty"):
        ask(io.BytesIO(b""))
    with pytest.raises(errors.InvalidRequest, match="image_url"):
        ask(image_url="")
    with pytest.raises(errors.MediaTooLarge, match="165536 bytes"):
        ask(io.BytesIO(bytes(200_000)))
    assert images.asked == []


def test_missing_file(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(tmp_path / "gone.jpg")


def test_nobody_listens() -> None:
    with Client("http://127.0.0.1:1") as client:
        for call in (
            lambda: client.classify_reusable(io.BytesIO(b"x")),
            client.models,
            lambda: client.reload_model("container"),
        ):
            with pytest.raises(errors.Unavailable, match="can't be reached"):
                call()


class TestModels:
    def test_what_is_loaded_where(self, client: Client) -> None:
        container, beverage = client.models()
        assert (container["name"], container["deployment"], container["state"]) == (
            "container",
            "ContainerClassifier",
            "HEALTHY",
        )
        [replica] = container["replicas"]
        assert (replica["model_version"], replica["loaded_at"]) == (VERSION, "2024-01-15T10:30:00Z")
        assert beverage["replicas"] == []

    def test_reload(self, client: Client, models: MemoryModels) -> None:
        new = replace(REPLICA_MODEL, model_version="new.pth (89abcdef)")
        models.after_reload = [DeployedModel("container", "ContainerClassifier", "HEALTHY", (new,))]
        answer = client.reload_model("container")
        assert answer["reloaded"] is True
        assert answer["models"][0]["replicas"][0]["model_version"] == "new.pth (89abcdef)"
        assert models.reloaded == ["container"]

    def test_reload_that_failed(self, client: Client, models: MemoryModels) -> None:
        old = replace(REPLICA_MODEL, failure="it is damaged")
        models.after_reload = [DeployedModel("container", "ContainerClassifier", "HEALTHY", (old,))]
        answer = client.reload_model("container")
        assert answer["reloaded"] is False
        assert answer["models"][0]["replicas"][0]["failure"] == "it is damaged"

    @pytest.mark.parametrize("name", ["drums", "북", "a b", "con?tainer"])
    def test_unknown_one(self, client: Client, models: MemoryModels, name: str) -> None:
        with pytest.raises(errors.ServeAppError, match="No such model; there are: container, beverage"):
            client.reload_model(name)
        assert models.reloaded == []

    def test_not_in_time(self, client: Client, models: MemoryModels, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(name: str) -> None:
            raise errors.Unavailable("not every replica has read its weights anew", 10.0)

        monkeypatch.setattr(models, "reload", fail)
        with pytest.raises(errors.Unavailable, match="not every replica") as caught:
            client.reload_model("container")
        assert caught.value.retry_after_s == 10.0
