"""`converted_folder`: a file of weights as the folder that engines read (`converted`), made once for each content.

`python -m serve_app.models.images.conversion` converts it in a process of its own, so that a serving process never
unpickles a file, and a broken or huge one can't end it. It reads a JSON request from standard input and writes a JSON
answer as the last line of standard output.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from serve_app.errors import ModelLoadingError, errno_text
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
from serve_app.sentences import Sentence, from_json, to_json

_VERSION = 2  # of the folder's form: another number converts everything anew
_LONGEST_S = 900.0
_KEPT = 8  # versions of weights, of all tasks: an operator can go back, and ResNet-50 takes 190 MB a version
_NICENESS = 10  # serving on the same machine comes first


@dataclass(frozen=True, slots=True)
class Conversion:
    """A request for a conversion."""

    weights: str  # path of the file
    sha256: str  # of the file
    purpose: str  # of the weights, in words
    classes: tuple[str, ...]  # by output
    activation: str  # between the head's layers; empty: the one that the head's shape suggests
    calibration: str = ""  # folder of images; empty: none

    @property
    def key(self) -> str:
        """Name of the folder: a hash of everything that its content depends on."""
        content = [_VERSION, self.sha256, self.classes, self.activation, _listing(self.calibration)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


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

    Raises:
        ModelLoadingError: the file can't be read, does not fit, or changed while it was read.
    """
    try:
        sha256 = sha256_of(weights, cache_dir)
    except OSError as error:
        raise ModelLoadingError(
            Sentence("The weights {name} can't be read: {reason}", name=repr(weights.name), reason=errno_text(error))
        ) from error
    request = Conversion(str(weights), sha256, purpose, tuple(classes), activation or "", calibration)
    target = cache_dir / "images" / request.key
    was_built = built_folder(target, lambda folder: _convert_elsewhere(request, folder))
    with suppress(OSError):  # a cache that may only be read will do
        os.utime(target)
    if was_built:
        folders = [path for path in target.parent.iterdir() if is_whole(path)]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)  # an engine that runs on it has read it already
    return target, sha256


def _convert_elsewhere(request: Conversion, folder: Path) -> None:
    name = Path(request.weights).name
    try:
        done = subprocess.run(
            [sys.executable, "-m", "serve_app.models.images.conversion"],
            input=json.dumps({"request": asdict(request), "folder": str(folder)}),
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelLoadingError(
            Sentence("Converting {name} took more than {minutes:.0f} minutes", name=repr(name), minutes=_LONGEST_S / 60)
        ) from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        reason = done.stderr.strip()[-600:] or "it said nothing"
        raise ModelLoadingError(
            Sentence(
                "Converting {name} failed (exit status {status}): {reason}",
                name=repr(name),
                status=done.returncode,
                reason=reason,
            )
        ) from None
    if "error" in answer:
        raise ModelLoadingError(from_json(answer["error"]))


def _listing(calibration: str) -> list[list[Any]] | None:
    if not calibration:
        return None  # an empty folder has another key
    try:
        entries = sorted(Path(calibration).iterdir())
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in entries if path.is_file()]
    except OSError as error:
        raise ModelLoadingError(
            Sentence(
                "The calibration images in {folder} can't be read: {reason}",
                folder=repr(calibration),
                reason=errno_text(error),
            )
        ) from error


def convert(request: Conversion, folder: Path) -> ModelFacts:
    """Fill a folder from a file of weights, which must fit. Loads torch."""
    import torch

    from serve_app.models.images.networks import PixelNetwork, converted_network
    from serve_app.models.images.quantization import calibrated
    from serve_app.models.images.state_dict import fit_weights
    from serve_app.models.images.weights_file import Unfit, read_weights, unfit_error

    path = Path(request.weights)
    try:
        stored = path.read_bytes()
        if hashlib.sha256(stored).hexdigest() != request.sha256:
            raise Unfit(Sentence("it changed while it was read: put files in place whole, by renaming them"))
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
    kinds = ("weight", "bias")
    layers = {f"{number}.{kind}": head[f"{index}.{kind}"] for number, index in enumerate(numbers) for kind in kinds}
    write_arrays(folder / HEAD, layers)

    network = converted_network(facts, fitted.state)
    backbone = PixelNetwork(network).eval()
    plain_head = getattr(converted_network(facts, fitted.state, with_head=True), HEAD_NAME[fitted.architecture])
    _export(backbone, folder / BACKBONE)

    def reference(images: Any) -> tuple[Any, Any]:
        with torch.inference_mode():
            parts = [backbone(torch.from_numpy(images[start : start + 8])) for start in range(0, len(images), 8)]
            features = torch.cat(parts)
            return features.numpy(), plain_head(features).softmax(1).numpy()

    probe, int8 = calibrated(request.calibration, folder, lambda images: reference(images)[1], facts.activation)
    features, probabilities = reference(probe)
    write_arrays(folder / PROBE, {"images": probe, "features": features, "probabilities": probabilities})
    facts = replace(facts, int8=int8)
    write_facts(folder, facts)
    return facts


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
        opset_version=17,
        dynamo=False,  # the other exporter needs onnxscript
    )


def main() -> None:
    """Do the conversion that standard input asks for."""
    import torch

    os.nice(_NICENESS)
    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    request = asked["request"] | {"classes": tuple(asked["request"]["classes"])}
    try:
        convert(Conversion(**request), Path(asked["folder"]))
        answer: dict[str, Any] = {"done": True}
    except ModelLoadingError as error:
        answer = {"error": to_json(error.detail)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
