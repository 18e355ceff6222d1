"""`POST /embed-image`: one picture, several, addresses, the choice of the model, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app import errors
from tests.unit.api.memory_services import VERSION, MemoryImages

PATH = "/embed-image"
ONE = {"embedding": [0.6, -0.8], "dimension": 2, "model": "container", "model_version": VERSION}


def upload(client: TestClient, *names: str, **fields: str) -> Any:
    return client.post(PATH, files=[("file", (name, name.encode())) for name in names], data=fields)


def test_one_picture(client: TestClient, images: MemoryImages) -> None:
    answer = upload(client, "cup.jpg")
    assert (answer.status_code, answer.json()) == (200, ONE)
    assert answer.headers["x-model-version"] == VERSION
    assert images.asked == [("container", [b"cup.jpg"])]


@pytest.mark.parametrize("model", ["container", "beverage"])
def test_the_model_is_chosen(model: str, client: TestClient, images: MemoryImages) -> None:
    assert upload(client, "cup.jpg", model=model).json()["model"] == model
    assert client.post(PATH, json={"image_url": "https://a.example/c.jpg", "model": model}).json()["model"] == model
    assert [task for task, _ in images.asked] == [model] * 2


def test_several_pictures_are_answered_each_on_its_own(client: TestClient, images: MemoryImages) -> None:
    images.failures[b"b.jpg"] = errors.ImageUnreadable("The file is empty")
    good, bad, last = upload(client, "a.jpg", "b.jpg", "c.jpg").json()["results"]
    assert good == {"filename": "a.jpg", **ONE}
    assert (bad["filename"], "embedding" in bad) == ("b.jpg", False)
    assert "The file is empty" in str(bad)
    assert last["filename"] == "c.jpg"


def test_addresses(client: TestClient, images: MemoryImages) -> None:
    urls = ["https://a.example/x/one.jpg?key=secret", "https://a.example/two.jpg"]
    answer = client.post(PATH, json={"image_urls": urls})
    assert [each["filename"] for each in answer.json()["results"]] == ["one.jpg", "two.jpg"]
    assert images.asked == [("container", urls)]


@pytest.mark.parametrize("fields", [{"modle": "container"}, {"model": "cat"}, {"confidence_threshold": "0.5"}])
def test_unknown_fields_and_models_are_refused(
    fields: dict[str, str], client: TestClient, images: MemoryImages
) -> None:
    assert upload(client, "cup.jpg", **fields).status_code == 422
    assert client.post(PATH, json={"image_url": "https://a.example/c.jpg", **fields}).status_code == 422
    assert images.asked == []


def test_a_picture_that_fails_alone_is_the_answer(client: TestClient, images: MemoryImages) -> None:
    images.failures[b"cup.jpg"] = errors.ImageUnreadable("The file is empty")
    assert upload(client, "cup.jpg").status_code == 422
    assert client.post(PATH, content=b"x", headers={"content-type": "text/plain"}).status_code == 415
