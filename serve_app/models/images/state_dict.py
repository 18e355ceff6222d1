"""`fit_weights`: other people's state_dicts in our networks, matched by torchvision's names, else by shape.

A notebook's class may keep the backbone whole (`backbone.`, `model.`, `module.`), its children in a Sequential
(`features.0`, `features.4.0.conv1`), or under other names. The head may be `fc`, `classifier` or `head`, with dropout
between its layers or without. Each form is matched where it is unambiguous. An error gives the name and shape of what
does not fit.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from serve_app.models.images.architectures import HEAD_NAME, NUM_FEATURES, Architecture
from serve_app.models.images.networks import backbone_shapes
from serve_app.models.images.weights_file import StoredWeights, Unfit
from serve_app.sentences import Sentence, joined

# The children of a backbone by their place in `nn.Sequential(*backbone.children())`.
_CHILDREN = {
    Architecture.RESNET50: {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"},
    Architecture.MOBILENET_V3_SMALL: {"features": "0"},
}
_MAX_NAMED = 4
_HEAD_LAYERS = (1, 2)


@dataclass(frozen=True, slots=True)
class FittedWeights:
    """A state_dict in our network's names."""

    architecture: Architecture
    hidden_widths: tuple[int, ...]  # of the head's layers but the last
    state: dict[str, torch.Tensor]  # of `build_network`, float32, without `num_batches_tracked`
    findings: tuple[str, ...]  # how the names were understood, one sentence each


def fit_weights(stored: StoredWeights, classes: Sequence[str]) -> FittedWeights:
    """Return a file's weights in our network's names; `classes` are the meanings of the outputs, first to last.

    Raises:
        Unfit: the backbone, the head or the classes do not fit; the message says which.
    """
    tensors = {
        name: value
        for name, value in stored.tensors.items()
        # only training reads counters: of batches, averaged models (`n_averaged`), epochs
        if not (name.endswith("num_batches_tracked") or (value.ndim == 0 and not value.dtype.is_floating_point))
    }
    for name, value in tensors.items():
        if value.is_quantized or not value.is_floating_point():
            raise Unfit(
                Sentence(
                    "{name} is {kind}, not a real number: quantized weights can't be read, save the plain",
                    name=name,
                    kind=value.dtype,
                )
            )
    architecture, names, how = _backbone(tensors)
    in_file = set(names.values())
    rest = {name: value for name, value in tensors.items() if name not in in_file}
    layers = _head(rest, architecture, classes)
    order, reordered = _class_order(stored.classes, classes)
    state = {ours: tensors[theirs].float().contiguous() for ours, theirs in names.items()}
    for number, layer in enumerate(layers):
        stem = f"{HEAD_NAME[architecture]}.{3 * number}"  # Linear, activation, Dropout
        weight, bias = rest[f"{layer}.weight"].float(), rest.get(f"{layer}.bias")
        bias = torch.zeros(weight.shape[0]) if bias is None else bias.float()
        if number == len(layers) - 1:
            weight, bias = weight[order], bias[order]
        state |= {f"{stem}.weight": weight.contiguous(), f"{stem}.bias": bias.contiguous()}
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise Unfit(Sentence("{name} is not finite everywhere", name=name))
    widths = tuple(rest[f"{layer}.weight"].shape[0] for layer in layers[:-1])
    sizes = " → ".join(map(str, (NUM_FEATURES[architecture], *widths, len(classes))))
    findings = [f"{architecture} backbone {how}", f"head {', '.join(layers)}: FC({sizes})", *reordered]
    if stored.found_in:
        findings.insert(0, f"state_dict under {stored.found_in!r}")
    return FittedWeights(architecture, widths, state, tuple(findings))


def _backbone(tensors: Mapping[str, torch.Tensor]) -> tuple[Architecture, dict[str, str], str]:
    """Return the architecture, the file's name for each of our backbone's names, and how they were found."""
    closest: tuple[int, str] = (0, "")
    for architecture in Architecture:
        shapes = backbone_shapes(architecture)
        for naming, what in _namings(architecture, list(shapes)):
            anchor = naming[next(iter(shapes))]
            ends = [name for name in tensors if f".{name}".endswith(f".{anchor}")]
            for prefix in sorted((name.removesuffix(anchor) for name in ends), key=len):
                names = {ours: prefix + theirs for ours, theirs in naming.items()}
                num_found, problem = _compared(tensors, names, shapes)
                if not problem:
                    return architecture, names, f"under {prefix + what!r}" if prefix + what else "under its own names"
                told = Sentence("as {architecture}, {problem}", architecture=architecture, problem=problem)
                closest = max(closest, (num_found, told), key=lambda pair: pair[0])
        if names := _by_order(tensors, shapes):
            return architecture, names, "by the order and the shapes of its tensors"
    if not closest[0]:
        first = ", ".join(itertools.islice(tensors, _MAX_NAMED))
        raise Unfit(
            Sentence(
                "it holds neither {one} nor {other}; its first tensors are {first}",
                one=Architecture.RESNET50,
                other=Architecture.MOBILENET_V3_SMALL,
                first=first,
            )
        )
    raise Unfit(Sentence("its backbone does not fit: {reason}", reason=closest[1]))


def _namings(architecture: Architecture, names: list[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Yield ways to name the backbone's tensors, and what to call each."""
    yield {name: name for name in names}, ""
    children = _CHILDREN[architecture]
    by_place = {name: ".".join([children[(parts := name.split(".", 1))[0]], parts[1]]) for name in names}
    yield by_place, "<place of the child>."
    if architecture is Architecture.MOBILENET_V3_SMALL:  # its only child with weights, kept under another name
        yield {name: name.removeprefix("features.") for name in names}, ""


def _compared(
    tensors: Mapping[str, torch.Tensor], names: Mapping[str, str], shapes: Mapping[str, torch.Size]
) -> tuple[int, str]:
    """Return how many tensors fit, and what is wrong with the others."""
    missing = [theirs for theirs in names.values() if theirs not in tensors]
    other = [
        Sentence(
            "{name} is {found} instead of {expected}",
            name=theirs,
            found=tuple(tensors[theirs].shape),
            expected=tuple(shapes[ours]),
        )
        for ours, theirs in names.items()
        if theirs in tensors and tensors[theirs].shape != shapes[ours]
    ]
    problems = [Sentence("it lacks {names}", names=_some(missing))] if missing else []
    problems += [_some(other)] if other else []
    return len(names) - len(missing) - len(other), joined("; ", problems) if problems else ""


def _by_order(tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, str]:
    """Return the file's names where its tensors match the backbone's leaf names and shapes in order, in one place."""
    expected = [(name.rpartition(".")[2], shape) for name, shape in shapes.items()]
    found = [(name.rpartition(".")[2], value.shape) for name, value in tensors.items()]
    places = [
        start for start in range(len(found) - len(expected) + 1) if found[start : start + len(expected)] == expected
    ]
    if len(places) != 1:
        return {}
    return dict(zip(shapes, list(tensors)[places[0] : places[0] + len(expected)], strict=True))


def _head(rest: Mapping[str, torch.Tensor], architecture: Architecture, classes: Sequence[str]) -> list[str]:
    """Return the names of the head's layers, first to last: fully connected, from the features to the classes."""
    layers = sorted(
        (name.removesuffix(".weight") for name, value in rest.items() if name.endswith(".weight") and value.ndim == 2),
        key=_natural,
    )
    strange = [name for name in rest if name.rpartition(".")[0] not in layers]
    if strange:
        shown = _some([f"{name} {tuple(rest[name].shape)}" for name in strange])
        raise Unfit(
            Sentence(
                "beside the {architecture} backbone it holds what no fully connected head has: {names}",
                architecture=architecture,
                names=shown,
            )
        )
    chains = [
        list(chain)
        for chain in itertools.permutations(layers)
        if len(layers) in _HEAD_LAYERS and _is_chain(rest, chain, NUM_FEATURES[architecture], len(classes))
    ]
    if not chains:
        sizes = [f"{layer} {rest[f'{layer}.weight'].shape[1]}→{rest[f'{layer}.weight'].shape[0]}" for layer in layers]
        raise Unfit(
            Sentence(
                "its head must lead from {features} features over at most one hidden layer to {num} classes "
                "({classes}), but it has {found}",
                features=NUM_FEATURES[architecture],
                num=len(classes),
                classes=", ".join(classes),
                found=_some(sizes) if sizes else Sentence("no layer"),
            )
        )
    return chains[0]  # of two layers only one order can be a chain from the features to the classes


def _is_chain(rest: Mapping[str, torch.Tensor], layers: Sequence[str], num_features: int, num_classes: int) -> bool:
    width = num_features
    for layer in layers:
        num_out, num_in = rest[f"{layer}.weight"].shape
        bias = rest.get(f"{layer}.bias")
        if num_in != width or (bias is not None and bias.shape != (num_out,)):
            return False
        width = num_out
    return bool(layers) and width == num_classes


def _class_order(in_file: Sequence[str] | None, classes: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the file's output of each class, and a finding where they are in another order."""
    if in_file is None:
        return list(range(len(classes))), []
    names = [name.strip().lower() for name in in_file]
    if sorted(names) != sorted(classes):
        raise Unfit(
            Sentence(
                "it says that its classes are {found}, not {expected}",
                found=", ".join(in_file),
                expected=", ".join(classes),
            )
        )
    order = [names.index(name) for name in classes]
    return order, [] if order == sorted(order) else [f"outputs put in order: the file has {', '.join(in_file)}"]


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]


def _some(items: Sequence[str]) -> Sentence:
    named = joined(", ", items[:_MAX_NAMED])
    if len(items) <= _MAX_NAMED:
        return named
    return Sentence("{names} and {num} more", names=named, num=len(items) - _MAX_NAMED)
