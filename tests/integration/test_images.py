"""Pictures over real HTTP on the shared graph: the contract, odd files, addresses, new weights while it serves."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.errors import DownloadError, ImageTooLarge, ImageUnreadable
from tests.integration.drawn_images import as_file, drawn_jpeg

# The deployments start from zero replicas and convert their weights at first; two busy cores take their time.
TIMEOUT_S = 240.0
CLASSES = {"container": ["disposable", "reusable"], "beverage": ["empty", "with_beverage", "unclear"]}
ROUTES = {"container": "/classify-reusable", "beverage": "/verify-beverage"}

PROGRAM = """
import json, sys
import ray
from ray import serve
from serve_app.errors import ImageUnreadable

ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False)
container, beverage = (
    serve.get_deployment_handle(name, "serve_app") for name in ("ContainerClassifier", "BeverageDetector")
)
image = open(sys.argv[2], "rb").read()
calls = [handle.classify.remote(image) for handle in (container, beverage)]
several = container.classify_many.remote([image, b"no picture"]).result()
try:
    beverage.classify.remote(b"no picture").result()
except ImageUnreadable as error:
    refused = type(error.cause).__name__
print(json.dumps({
    "scores": [call.result().scores.scores for call in calls],
    "several": [type(answer).__name__ for answer in several],
    "refused": refused,
}))
"""


@pytest.fixture(scope="module", autouse=True)
def up(graph: LocalGraph) -> None:
    """Wait for both deployments' start once, not in whichever test comes first."""
    image = drawn_jpeg("container", "reusable", 0)
    for route in ROUTES.values():
        post(graph, route, image).raise_for_status()


def post(graph: LocalGraph, route: str, *images: bytes, **params: Any) -> httpx.Response:
    files = [("file", (f"{number}.jpg", image)) for number, image in enumerate(images)]
    return httpx.post(f"{graph.base_url}{route}", files=files, params=params, timeout=TIMEOUT_S)


def check_probabilities(answer: dict[str, Any], task: str) -> None:
    probabilities = answer["probabilities"]
    assert list(probabilities) == CLASSES[task]
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    assert answer["predicted_class"] == max(probabilities, key=probabilities.__getitem__)
    assert answer["confidence"] == probabilities[answer["predicted_class"]]


@pytest.mark.parametrize("task", list(ROUTES))
def test_drawings_are_known(graph: LocalGraph, task: str) -> None:
    """The embedded weights, over the whole way, on drawings of their kind that they were not trained on."""
    num_right = num = 0
    for label in CLASSES[task]:
        answer = post(graph, ROUTES[task], *(drawn_jpeg(task, label, number) for number in range(10)))
        for result in answer.json()["results"]:
            check_probabilities(result, task)
            num_right += result["predicted_class"] == label
            num += 1
    assert num_right / num >= 0.8


def test_the_contract_of_containers(graph: LocalGraph) -> None:
    answer = post(graph, "/classify-reusable", drawn_jpeg("container", "reusable", 1))
    assert answer.status_code == 200
    told = answer.json()
    assert list(told) == ["is_reusable", "confidence", "predicted_class", "probabilities", "message"]
    check_probabilities(told, "container")
    assert told["is_reusable"] is (told["predicted_class"] == "reusable")
    assert f"container detected (confidence: {told['confidence']:.1%})" in told["message"]
    assert answer.headers["x-model-version"].startswith("container_net.safetensors (")


def test_the_contract_of_beverages(graph: LocalGraph) -> None:
    image = drawn_jpeg("beverage", "with_beverage", 1)
    told = post(graph, "/verify-beverage", image, confidence_threshold=0.0).json()
    assert list(told) == [
        "has_beverage",
        "confidence",
        "predicted_class",
        "is_valid",
        "probabilities",
        "message",
    ]
    check_probabilities(told, "beverage")
    assert told["has_beverage"] is (told["predicted_class"] == "with_beverage")
    assert told["is_valid"] is told["has_beverage"]
    strict = post(graph, "/verify-beverage", image, confidence_threshold=1.0).json()
    assert strict["probabilities"] == told["probabilities"]
    assert not strict["is_valid"]
    refused = post(graph, "/verify-beverage", image, confidence_threshold=1.5)
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "confidence_threshold"])


def test_every_kind_of_file_says_the_same(graph: LocalGraph) -> None:
    picture = Image.open(io.BytesIO(drawn_jpeg("container", "reusable", 2))).convert("RGB")
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°: shown upright by every viewer
    forms = {
        "png": as_file(picture, "PNG"),
        "alpha": as_file(picture.convert("RGBA"), "PNG"),
        "webp": as_file(picture, "WEBP", lossless=True),
        "bmp": as_file(picture, "BMP"),
        "tiff": as_file(picture, "TIFF"),
        "turned": as_file(turned, "PNG", exif=exif),
        "gif": as_file(picture, "GIF", save_all=True, append_images=[Image.new("RGB", picture.size)]),
        "progressive": as_file(picture, "JPEG", quality=95, progressive=True),
        "avif": as_file(picture, "AVIF", quality=95),
    }
    results = post(graph, "/classify-reusable", *forms.values()).json()["results"]
    exact = results[0]["probabilities"]["reusable"]
    for form, result in zip(forms, results, strict=True):
        lossy = form in ("gif", "progressive", "avif")
        assert result["probabilities"]["reusable"] == pytest.approx(exact, abs=0.3 if lossy else 1e-4), form


def test_files_that_are_no_pictures_cost_themselves_only(graph: LocalGraph) -> None:
    good = drawn_jpeg("container", "disposable", 3)
    bomb = bytearray(as_file(Image.new("L", (8, 8)), "BMP"))
    bomb[18:26] = (60_000).to_bytes(4, "little") * 2
    files = [good, b"no picture", good[: len(good) // 2], b"", bytes(bomb), b"%!PS-Adobe-3.0 EPSF-3.0\n", good]
    results = post(graph, "/classify-reusable", *files).json()["results"]
    codes = [result["error"]["code"] if "error" in result else None for result in results]
    unreadable = "IMAGE_UNREADABLE"
    assert codes == [None, unreadable, unreadable, unreadable, "IMAGE_TOO_LARGE", unreadable, None]
    assert results[0]["probabilities"] == results[-1]["probabilities"]


def test_failures_are_told_to_clients(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="JPEG, PNG"):
        client.classify_reusable(io.BytesIO(b"no picture" * 99))
    with pytest.raises(ImageTooLarge, match="메가픽셀"):
        client.verify_beverage(io.BytesIO(as_file(Image.new("1", (9000, 9000)), "PNG")))


def test_a_file_over_the_limit_is_refused(graph: LocalGraph) -> None:
    answer = post(graph, "/classify-reusable", b"\xff\xd8" + bytes(21 * 1024**2))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "REQUEST_TOO_LARGE")
    assert answer.json()["detail"] == "파일이 20971520바이트를 넘습니다"


def test_addresses_are_fetched_where_they_may(client: Client, graph: LocalGraph, served: tuple[Path, str]) -> None:
    folder, base_url = served
    (folder / "cup.jpg").write_bytes(image := drawn_jpeg("container", "reusable", 4))
    told = client.classify_reusable(image_url=f"{base_url}/cup.jpg?signature=secret")
    assert told == post(graph, "/classify-reusable", image).json()
    answer = httpx.post(
        f"{graph.base_url}/verify-beverage",
        json={"image_urls": [f"{base_url}/cup.jpg", f"{base_url}/none.jpg", "http://169.254.169.254/latest"]},
        timeout=TIMEOUT_S,
    ).json()
    assert [result["filename"] for result in answer["results"]] == ["cup.jpg", "none.jpg", "latest"]
    messages = [result["error"]["message"] for result in answer["results"][1:]]
    assert messages[0].startswith("404")
    assert "169.254.169.254: 공개된 주소가 아닙니다" in messages[1]
    with pytest.raises(DownloadError):
        client.verify_beverage(image_url="file:///etc/passwd")


def test_many_at_once_get_what_one_does(graph: LocalGraph) -> None:
    images = [drawn_jpeg("container", label, number) for number in range(4) for label in CLASSES["container"]]
    alone = [post(graph, "/classify-reusable", image).json() for image in images]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda image: post(graph, "/classify-reusable", image), images * 8))
    assert {answer.status_code for answer in together} == {200}
    for number, answer in enumerate(together):
        expected = alone[number % len(images)]["probabilities"]["reusable"]
        assert answer.json()["probabilities"]["reusable"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_another_program_uses_them_by_name(graph: LocalGraph, tmp_path: Path) -> None:
    (tmp_path / "cup.jpg").write_bytes(image := drawn_jpeg("container", "reusable", 5))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(graph.ray_dir / "auth_token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    address = (graph.ray_dir / "address").read_text()
    command = [sys.executable, "-c", PROGRAM, address, str(tmp_path / "cup.jpg")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    for task, scores in zip(CLASSES, told["scores"], strict=True):
        assert scores == pytest.approx(post(graph, ROUTES[task], image).json()["probabilities"], abs=1e-5)
    assert told["several"] == ["ImageClassification", "ImageUnreadable"]
    assert told["refused"] == "ImageUnreadable"


@pytest.fixture
def swapped(image_weights: Path, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return what puts other weights in place of the graph's; the first ones come back at the end.

    "second" knows the classes the other way round, "broken" is cut off.
    """
    first = image_weights.resolve()
    layers = load_file(first)
    last = sorted(name for name in layers if name.startswith("classifier.") and name.endswith(".weight"))[-1]
    for name in (last, last.replace(".weight", ".bias")):
        layers[name] = layers[name][::-1].copy()
    files = {name: tmp_path / f"{name}.safetensors" for name in ("second", "broken")}
    save_file(layers, files["second"])
    files["broken"].write_bytes(first.read_bytes()[:100_000])

    def put(name: str) -> Path:
        link = image_weights.with_suffix(".new")
        link.symlink_to(files.get(name, first))
        link.replace(image_weights)
        return files.get(name, first)

    yield put
    put("first")


@pytest.mark.slow
def test_new_weights_without_downtime(
    graph: LocalGraph, client: Client, swapped: Callable[[str], Path], tmp_path: Path
) -> None:
    image = drawn_jpeg("container", "reusable", 6)
    before = post(graph, "/classify-reusable", image)
    version = before.headers["x-model-version"]
    answers: list[httpx.Response] = []
    stop = threading.Event()

    def keep_asking() -> None:
        with httpx.Client(timeout=TIMEOUT_S) as http:
            while not stop.is_set():
                answers.append(http.post(f"{graph.base_url}/classify-reusable", files={"file": image}))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking) for _ in range(4)]
        try:
            swapped("second")
            done = run_models(graph, "reload", "container")
            after = post(graph, "/classify-reusable", image)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert after.headers["x-model-version"].startswith("second.safetensors (")
    assert {answer.status_code for answer in answers} == {200}
    by_version = {answer.headers["x-model-version"]: answer.json()["probabilities"]["reusable"] for answer in answers}
    assert by_version.keys() == {version, after.headers["x-model-version"]}
    assert by_version[version] == pytest.approx(before.json()["probabilities"]["reusable"], abs=1e-4)
    swapped_probability = by_version[after.headers["x-model-version"]]
    # each file of weights gets the number format that is the fastest for it
    assert swapped_probability == pytest.approx(before.json()["probabilities"]["disposable"], abs=0.01)

    swapped("broken")
    failed = run_models(graph, "reload", "container")
    assert failed.returncode == 1
    assert "'broken.safetensors' can't serve as container classifier" in failed.stdout
    still = post(graph, "/classify-reusable", image)
    assert still.headers["x-model-version"] == after.headers["x-model-version"]
    [model] = [model for model in client.models() if model["name"] == "container"]
    [replica] = model["replicas"]
    assert (replica["model_version"], replica["warm"]) == (after.headers["x-model-version"], True)
    assert "broken.safetensors" in replica["failure"]

    swapped("first")
    assert client.reload_model("container")["reloaded"]
    assert post(graph, "/classify-reusable", image).headers["x-model-version"] == version
    told = run_models(graph, "list")
    assert version in told.stdout
    assert "broken" not in told.stdout


def test_a_classifier_inside_the_ingress_is_told_and_reloads(client: Client) -> None:
    hosted = {model["deployment"]: model for model in client.models() if model["name"] == "beverage"}
    [replica] = hosted["Ingress"]["replicas"]
    assert (replica["warm"], replica["failure"]) == (True, None)
    assert replica["model_version"].startswith("beverage_net.safetensors (")
    answer = client.reload_model("beverage")
    assert answer["reloaded"]
    [again] = [model for model in answer["models"] if model["deployment"] == "Ingress"]
    assert again["replicas"] == [replica]  # the file is the same: nothing was loaded


def test_models_that_are_loaded_once_are_told_too(client: Client) -> None:
    told = {model["name"]: model for model in client.models() if not model["reloads"]}
    assert {"faster-whisper", "transformers", "openai-whisper", "pocketsphinx", "diarization", "drums"} <= set(told)
    [diarizer] = told["diarization"]["replicas"]
    assert diarizer["model_version"].startswith("pyannote-audio-")
    assert (diarizer["engine"], diarizer["failure"]) == ("pyannote.audio", None)


def run_models(graph: LocalGraph, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serve_app", "models", *arguments, "--url", graph.base_url]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)


@pytest.mark.slow  # two programs that load torch; tests/unit/commands/models has the same without the shell
def test_weights_are_checked_before_they_are_put_in_place(tmp_path: Path, image_weights: Path) -> None:
    shutil.copy(image_weights.resolve(), tmp_path / "mine.safetensors")
    environment = {**os.environ, "SERVE_APP_STATE_DIR": str(tmp_path / "state")}

    def check(task: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "serve_app", "models", "check", str(tmp_path / "mine.safetensors")]
        return subprocess.run(
            [*command, "--task", task], env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )

    good, other = check("container"), check("beverage")
    assert good.returncode == 0, good.stderr
    assert "mobilenet_v3_small backbone" in good.stdout
    assert "engine: onnxruntime in fp32 on cpu" in good.stdout
    assert other.returncode == 1
    assert "3 classes (empty, with_beverage, unclear)" in other.stderr
