"""`converted_folder`: a file of weights as the folder that engines read (`converted`), converted once for each content.

A process of its own converts it. The process that serves never unpickles a file and never loads torch for it: what a
broken or huge file does, it does to the other process. `python -m serve_app.models.images.conversion` is that process:
a JSON request on standard input, a JSON answer as the last line of standard output.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serve_app.errors import ModelLoadingError
from serve_app.models.built_folder import built_folder, is_whole
from serve_app.models.file_hashes import sha256_of
from serve_app.models.images.architectures import HEAD_NAME, Activation, default_activation
from serve_app.models.images.converted import (
    BACKBONE,
    HEAD,
    INPUT,
    OUTPUT,
    PROBE,
    WEIGHTS,
    ModelFacts,
    write_arrays,
    write_facts,
)

_VERSION = 1  # of the folder's form: another number converts everything anew
_LONGEST_S = 900.0
_KEPT = 8  # versions of weights, of all tasks: the way back is short, and ResNet-50 takes 190 MB a version
_OPSET = 17
_KEY_LETTERS = 32
_SAID_CHARS = 600
_NICENESS = 10  # converting waits for serving, which goes on beside it


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is to be converted.

    Attributes:
        weights: the file.
        sha256: of the file.
        purpose: what the weights are for, in words.
        classes: by output.
        activation: between the head's layers; empty: what goes with the head's shape.
        calibration: folder of images; empty: none.
    """

    weights: str
    sha256: str
    purpose: str
    classes: tuple[str, ...]
    activation: str
    calibration: str = ""

    @property
    def key(self) -> str:
        """Name of the folder: tells all that its content depends on."""
        told = [_VERSION, self.sha256, self.classes, self.activation, _listing(self.calibration)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:_KEY_LETTERS]


def converted_folder(
    weights: Path,
    cache_dir: Path,
    *,
    purpose: str,
    classes: Sequence[str],
    activation: Activation | None,
    calibration: str = "",
) -> tuple[Path, str]:
    """Return the folder of a file of weights, converted if need be, and the file's SHA-256. Blocks.

    The arguments are those of `Conversion`; folders are kept in `cache_dir`.

    Raises:
        ModelLoadingError: the file can't be read, does not fit, or changed while it was read; says what does not fit.
    """
    try:
        sha256 = sha256_of(weights, cache_dir)
    except OSError as error:
        raise ModelLoadingError(f"The weights {weights.name!r} can't be read: {error.strerror or error}") from error
    request = Conversion(str(weights), sha256, purpose, tuple(classes), activation or "", calibration)
    target = cache_dir / "images" / request.key
    was_built = built_folder(target, lambda folder: _convert_elsewhere(request, folder))
    with suppress(OSError):  # a cache that may only be read serves too
        os.utime(target)
    if was_built:
        _remove_unused(target.parent)
    return target, sha256


def _remove_unused(cache: Path) -> None:
    """Keep the folders that were used last; what still runs on a removed one has read it already."""
    folders = [path for path in cache.iterdir() if is_whole(path)]
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _convert_elsewhere(request: Conversion, folder: Path) -> None:
    command = [sys.executable, "-m", "serve_app.models.images.conversion"]
    asked = json.dumps({"request": asdict(request), "folder": str(folder)})
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter and module)
            command, input=asked, capture_output=True, text=True, timeout=_LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelLoadingError(
            f"Converting {Path(request.weights).name!r} took more than {_LONGEST_S / 60:.0f} minutes"
        ) from None
    lines = done.stdout.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        said = done.stderr.strip()[-_SAID_CHARS:] or "it said nothing"
        raise ModelLoadingError(
            f"Converting {Path(request.weights).name!r} failed (exit status {done.returncode}): {said}"
        ) from None
    if "error" in answer:
        raise ModelLoadingError(answer["error"])


def _listing(calibration: str) -> list[list[Any]] | None:
    if not calibration:
        return None  # not what an empty folder is
    try:
        entries = sorted(Path(calibration).iterdir())
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in entries if path.is_file()]
    except OSError as error:
        raise ModelLoadingError(
            f"The calibration images in {calibration!r} can't be read: {error.strerror or error}"
        ) from error


def convert(request: Conversion, folder: Path) -> ModelFacts:
    """Fill a folder from a file of weights. Loads torch.

    Raises:
        ModelLoadingError: the file does not fit.
    """
    import torch

    from serve_app.models.images.networks import PixelNetwork, converted_network
    from serve_app.models.images.quantization import calibrated
    from serve_app.models.images.state_dict import fit_weights
    from serve_app.models.images.weights_file import Unfit, read_weights, unfit_error

    path = Path(request.weights)
    try:
        stored = path.read_bytes()
        if hashlib.sha256(stored).hexdigest() != request.sha256:
            raise Unfit("it changed while it was read: put files in place whole, by renaming them")
        fitted = fit_weights(read_weights(stored), request.classes)
    except (Unfit, OSError) as problem:
        raise unfit_error(path.name, problem, request.purpose) from problem
    facts = ModelFacts(
        fitted.architecture.value,
        fitted.hidden_widths,
        request.activation or default_activation(fitted.architecture, fitted.hidden_widths),
        request.classes,
        path.name,
        request.sha256,
        fitted.findings,
    )
    state = {name: value.numpy() for name, value in fitted.state.items()}
    write_arrays(folder / WEIGHTS, state)
    stem = f"{HEAD_NAME[fitted.architecture]}."
    head = {name.removeprefix(stem): value for name, value in state.items() if name.startswith(stem)}
    numbers = sorted({int(name.partition(".")[0]) for name in head})
    layers = {f"{number}.{kind}": head[f"{index}.{kind}"] for number, index in enumerate(numbers) for kind in _KINDS}
    write_arrays(folder / HEAD, layers)

    whole = PixelNetwork(converted_network(facts, fitted.state, with_head=True))
    _export(PixelNetwork(converted_network(facts, fitted.state)).eval(), folder / BACKBONE)

    def reference(images: Any) -> Any:
        with torch.inference_mode():
            parts = [whole(torch.from_numpy(images[start : start + 8])) for start in range(0, len(images), 8)]
            return torch.cat(parts).softmax(1).numpy()

    probe, said = calibrated(request.calibration, folder, reference, facts.activation)
    write_arrays(folder / PROBE, {"images": probe, "probabilities": reference(probe)})
    facts = ModelFacts(**{**asdict(facts), "int8": said})
    write_facts(folder, facts)
    return facts


_KINDS = ("weight", "bias")


def _export(network: Any, path: Path) -> None:
    import torch

    from serve_app.models.images.preprocessing import SIDE_PX

    pixels = torch.zeros(2, SIDE_PX, SIDE_PX, 3, dtype=torch.uint8)
    torch.onnx.export(
        network,
        (pixels,),
        str(path),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        opset_version=_OPSET,
        dynamo=False,  # the other exporter wants onnxscript, one more dependency
    )


def main() -> None:
    """Convert what standard input asks for."""
    import torch

    os.nice(_NICENESS)
    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    request = asked["request"] | {"classes": tuple(asked["request"]["classes"])}
    try:
        convert(Conversion(**request), Path(asked["folder"]))
        answer: dict[str, Any] = {"done": True}
    except ModelLoadingError as error:
        answer = {"error": error.detail}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
