"""Other people's state_dicts: every naming that can mean one thing only is understood, and the rest is told."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from serve_app.models.images import state_dict
from serve_app.models.images.architectures import Activation, Architecture
from serve_app.models.images.state_dict import FittedWeights, fit_weights
from serve_app.models.images.weights_file import StoredWeights, Unfit, read_weights
from tests.unit.models.images.notebooks import (
    BEVERAGES,
    CONTAINERS,
    as_safetensors,
    lively,
    logits,
    mobilenet,
    renamed,
    resnet,
    saved,
    served,
)

State = Mapping[str, torch.Tensor]
Change = Callable[[State], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def container() -> nn.Module:
    return resnet()


@pytest.fixture(scope="module")
def beverage() -> nn.Module:
    return mobilenet()


@pytest.fixture(autouse=True, scope="module")
def _shapes_once() -> Iterator[None]:
    """Build the backbones whose shapes are compared once, not for each test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_dict, "backbone_shapes", functools.cache(state_dict.backbone_shapes))
        yield


def fit(state: State, classes: tuple[str, ...] = BEVERAGES, said: tuple[str, ...] | None = None) -> FittedWeights:
    return fit_weights(StoredWeights(dict(state), said), classes)


def assert_serves(fitted: FittedWeights, notebook: nn.Module, classes: tuple[str, ...] = BEVERAGES) -> None:
    """Hold that the network that is served says what the notebook's says."""
    expected = logits(notebook)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits(served(fitted, classes)), expected, rtol=0, atol=1e-5)


def assert_fits(changed: State, original: State, classes: tuple[str, ...] = CONTAINERS) -> FittedWeights:
    """Hold that a state_dict of other names gives what the original gives, tensor by tensor."""
    expected, found = fit(original, classes), fit(changed, classes)
    assert found.architecture == expected.architecture
    assert found.hidden_widths == expected.hidden_widths
    assert list(found.state) == list(expected.state)
    assert [name for name, value in found.state.items() if not torch.equal(value, expected.state[name])] == []
    return found


def refusal(state: State, classes: tuple[str, ...] = BEVERAGES, said: tuple[str, ...] | None = None) -> str:
    with pytest.raises(Unfit) as caught:
        fit(state, classes, said)
    assert len(str(caught.value)) < 600
    return str(caught.value)


# The notebooks' own


def test_the_container_notebooks_network_is_served(container: nn.Module) -> None:
    fitted = fit(container.state_dict(), CONTAINERS)
    assert (fitted.architecture, fitted.hidden_widths) == (Architecture.RESNET50, (512,))
    assert fitted.findings == ("resnet50 backbone under its own names", "head fc.0, fc.3: FC(2048 → 512 → 2)")
    assert_serves(fitted, container, CONTAINERS)


def test_the_beverage_notebooks_network_is_served(beverage: nn.Module) -> None:
    fitted = fit(beverage.state_dict())
    assert (fitted.architecture, fitted.hidden_widths) == (Architecture.MOBILENET_V3_SMALL, (256,))
    assert fitted.findings[-1] == "head classifier.0, classifier.3: FC(576 → 256 → 3)"
    assert_serves(fitted, beverage)


@pytest.mark.parametrize(
    "write",
    [
        saved,
        lambda state: saved(state, legacy=True),
        as_safetensors,
        lambda state: saved({"epoch": 3, "model_state_dict": state, "classes": list(BEVERAGES)}),
        lambda state: saved(renamed(state, ("", "_orig_mod."))),
    ],
    ids=["plain", "legacy", "safetensors", "checkpoint", "compiled"],
)
def test_every_kind_of_file_leads_to_the_same_network(write: Callable[[State], bytes], beverage: nn.Module) -> None:
    assert_serves(fit_weights(read_weights(write(beverage.state_dict())), BEVERAGES), beverage)


def test_state_is_ready_for_serving(beverage: nn.Module) -> None:
    state = fit(beverage.state_dict()).state
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert all(value.is_contiguous() for value in state.values())
    assert not any("num_batches_tracked" in name for name in state)


# Names


def places(*children: str, before: str = "") -> Change:
    """Return a change that numbers a backbone's children, as `nn.Sequential(*children)` does."""
    return lambda state: renamed(
        state, *((f"{child}.", f"{before}{at}.") for at, child in enumerate(children) if child)
    )


_RESNET_CHILDREN = ("conv1", "bn1", "", "", "layer1", "layer2", "layer3", "layer4")
_HEAD = ("fc.0.", "fc.3.")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: renamed(state, ("", "module.")), "under 'module.'"),
        (lambda state: renamed(state, ("", "model.")), "under 'model.'"),
        (lambda state: renamed(state, ("", "backbone.")), "under 'backbone.'"),
        (lambda state: renamed(state, ("", "module.net.backbone.")), "under 'module.net.backbone.'"),
        (lambda state: renamed(state, ("fc.", "fc."), ("", "backbone.")), "under 'backbone.'"),
        (lambda state: renamed(state, ("fc.", "classifier."), ("", "backbone.")), "under 'backbone.'"),
        (lambda state: renamed(state, ("fc.0.", "fc1."), ("fc.3.", "fc2."), ("", "resnet.")), "under 'resnet.'"),
        (lambda state: renamed(state, ("fc.0.", "fc.1."), ("fc.3.", "fc.4.")), "under its own names"),
        (lambda state: renamed(state, ("fc.0.", "fc.0."), ("fc.3.", "fc.2.")), "under its own names"),
        (lambda state: renamed(state, ("fc.0.", "head.2."), ("fc.3.", "head.10.")), "under its own names"),
        (lambda state: renamed(state, ("fc.0.", "zz.hidden."), ("fc.3.", "aa.out.")), "under its own names"),
        (places(*_RESNET_CHILDREN), "under '<place of the child>.'"),
        (places(*_RESNET_CHILDREN, before="features."), "under 'features.<place of the child>.'"),
        (places(*_RESNET_CHILDREN, before="module.encoder."), "under 'module.encoder.<place of the child>.'"),
        (
            lambda state: renamed(state, ("conv1.", "stem.a."), ("bn1.", "stem.b."), ("layer", "stage")),
            "by the order and the shapes of its tensors",
        ),
    ],
)
def test_names_of_a_resnet(change: Change, told: str, container: nn.Module) -> None:
    original = container.state_dict()
    changed = change(original)
    assert set(changed) != set(original) or "own names" in told
    assert told in assert_fits(changed, original).findings[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: renamed(state, ("", "module.")), "under 'module.'"),
        (lambda state: renamed(state, ("classifier.", "head."), ("", "base.")), "under 'base.'"),
        (lambda state: renamed(state, ("features.", "0."), ("classifier.", "1.")), "under '<place of the child>.'"),
        (lambda state: renamed(state, ("features.", "0.0."), ("classifier.", "1.")), "under '0.<place of the child>.'"),
        (lambda state: renamed(state, ("features.", "backbone.")), "under 'backbone.'"),
        (lambda state: renamed(state, ("features.", "model.encoder."), ("classifier.", "model.fc.")), "under 'model."),
        (lambda state: renamed(state, ("features.", "trunk.part")), "by the order and the shapes of its tensors"),
    ],
)
def test_names_of_a_mobilenet(change: Change, told: str, beverage: nn.Module) -> None:
    original = beverage.state_dict()
    assert told in assert_fits(change(original), original, BEVERAGES).findings[0]


class _Sequential(nn.Module):
    """All but the classifier in a Sequential, as tutorials do it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(models.mobilenet_v3_small(weights=None).children())[:-1])
        self.fc1, self.fc2 = nn.Linear(576, 256), nn.Linear(256, 3)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(self.features(seen).flatten(1)).relu())


class _Kept(nn.Module):
    """The backbone whole, without its classifier; the head declared first, and bigger than need be."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(576, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 3))
        self.backbone = models.mobilenet_v3_small(weights=None)
        self.backbone.classifier = nn.Identity()

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(seen))


class _Features(nn.Module):
    """Only torchvision's features are kept, with a pool of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = models.mobilenet_v3_small(weights=None).features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out = nn.Linear(576, 3)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.out(self.pool(self.encoder(seen)).flatten(1))


class _Spelt(_Features):
    """A backbone that was typed in: other names, the same layers."""

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        return renamed(super().state_dict(*args, **options), ("encoder.", "conv_stack_"), ("out.", "logits."))


@pytest.mark.parametrize("make", [_Sequential, _Kept, _Features, _Spelt])
@pytest.mark.parametrize("wrapped", [False, True])
def test_classes_that_notebooks_define(make: type[nn.Module], wrapped: bool) -> None:
    notebook = lively(make())
    kept = nn.DataParallel(notebook) if wrapped and make is not _Spelt else notebook
    assert_serves(fit_weights(read_weights(saved(kept.state_dict())), BEVERAGES), notebook)


def test_one_sequential_of_everything() -> None:
    base = models.mobilenet_v3_small(weights=None)
    head = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(576, 256), nn.ReLU(), nn.Linear(256, 3))
    notebook = lively(nn.Sequential(base.features, base.avgpool, head))
    assert_serves(fit(notebook.state_dict()), notebook)


def test_averaged_weights_of_torch() -> None:
    notebook = mobilenet(4)
    averaged = torch.optim.swa_utils.AveragedModel(notebook)
    assert "n_averaged" in averaged.state_dict()
    assert_serves(fit_weights(read_weights(saved(averaged.state_dict())), BEVERAGES), notebook)


# Heads and numbers


@pytest.mark.parametrize(
    ("head", "widths"),
    [
        (nn.Linear(576, 3), ()),
        (nn.Linear(576, 3, bias=False), ()),
        (nn.Sequential(nn.Dropout(0.2), nn.Linear(576, 3)), ()),
        (nn.Sequential(nn.Linear(576, 100), nn.ReLU(), nn.Linear(100, 3)), (100,)),
        (nn.Sequential(nn.Linear(576, 256, bias=False), nn.ReLU(), nn.Linear(256, 3, bias=False)), (256,)),
        (nn.Sequential(nn.Linear(576, 576), nn.ReLU(), nn.Linear(576, 3)), (576,)),
        (nn.Sequential(nn.Linear(576, 3), nn.ReLU(), nn.Linear(3, 3)), (3,)),
    ],
    ids=str,
)
def test_heads_of_several_makes(head: nn.Module, widths: tuple[int, ...]) -> None:
    notebook = mobilenet(1, head)
    fitted = fit(notebook.state_dict())
    assert fitted.hidden_widths == widths
    assert_serves(fitted, notebook)


def test_torchvisions_own_head_with_its_last_layer_replaced() -> None:
    network = models.mobilenet_v3_small(weights=None)
    network.classifier[3] = nn.Linear(1024, 3)
    notebook = lively(network)
    fitted = fit(notebook.state_dict())
    assert fitted.hidden_widths == (1024,)
    found = logits(served(fitted, BEVERAGES, Activation.HARDSWISH))
    torch.testing.assert_close(found, logits(notebook), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    notebook = mobilenet(2).to(dtype)
    fitted = fit(notebook.state_dict())
    assert {value.dtype for value in fitted.state.values()} == {torch.float32}
    assert_serves(fitted, notebook.float())


def test_views_and_strides_are_made_plain(beverage: nn.Module) -> None:
    original = beverage.state_dict()
    changed = {
        name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in original.items()
    }
    changed["classifier.0.weight"] = original["classifier.0.weight"].t().contiguous().t()
    assert_fits(changed, original, BEVERAGES)


def test_weights_from_before_batches_were_counted(beverage: nn.Module) -> None:
    original = beverage.state_dict()
    older = {name: value for name, value in original.items() if "num_batches_tracked" not in name}
    assert_fits(older, original, BEVERAGES)


# Classes


@pytest.mark.parametrize(
    "said", [("unclear", "empty", "with_beverage"), ("With_Beverage", " unclear", "EMPTY"), tuple(reversed(BEVERAGES))]
)
def test_outputs_of_another_order_are_put_in_order(said: tuple[str, ...], beverage: nn.Module) -> None:
    fitted = fit(beverage.state_dict(), said=said)
    assert fitted.findings[-1] == f"outputs put in order: the file has {', '.join(said)}"
    theirs = [each.strip().lower() for each in said]
    expected = logits(beverage)[:, [theirs.index(name) for name in BEVERAGES]]
    torch.testing.assert_close(logits(served(fitted, BEVERAGES)), expected, rtol=0, atol=1e-5)


def test_a_bias_less_output_is_put_in_order_too() -> None:
    notebook = mobilenet(1, nn.Linear(576, 3, bias=False))
    fitted = fit(notebook.state_dict(), said=("unclear", "with_beverage", "empty"))
    torch.testing.assert_close(logits(served(fitted, BEVERAGES)), logits(notebook).flip(1), rtol=0, atol=1e-5)


def test_classes_in_our_order_change_nothing_and_are_not_told(beverage: nn.Module) -> None:
    fitted = fit(beverage.state_dict(), said=BEVERAGES)
    assert "order" not in " ".join(fitted.findings)
    assert_serves(fitted, beverage)


@pytest.mark.parametrize("said", [("empty", "full", "unclear"), ("empty", "with_beverage"), ("empty",) * 3, CONTAINERS])
def test_other_classes_are_refused(said: tuple[str, ...], beverage: nn.Module) -> None:
    told = refusal(beverage.state_dict(), said=said)
    assert told == f"it says that its classes are {', '.join(said)}, not empty, with_beverage, unclear"


# Refusals


def on_meta(make: Callable[..., nn.Module], **options: Any) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return dict(make(weights=None, **options).state_dict())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (models.resnet18, ("as resnet50", "layer1.0.conv1.weight is (64, 64, 3, 3) instead of (64, 64, 1, 1)")),
        (models.resnet34, ("as resnet50", "it lacks layer1.0.conv3.weight")),
        (models.resnet101, ("beside the resnet50 backbone", "layer3.6.conv1.weight (256, 1024, 1, 1)", "more")),
        (models.wide_resnet50_2, ("as resnet50", "layer1.0.conv1.weight is (128, 64, 1, 1)")),
        (models.resnext50_32x4d, ("as resnet50", "layer1.0.conv1.weight is (128, 64, 1, 1)")),
        (models.mobilenet_v3_large, ("as mobilenet_v3_small", "features.1.block.")),
        (models.mobilenet_v2, ("neither resnet50 nor mobilenet_v3_small", "features.0.0.weight")),
        (models.efficientnet_b0, ("neither resnet50 nor mobilenet_v3_small", "features.0.0.weight")),
        (models.vgg11, ("neither resnet50 nor mobilenet_v3_small", "features.0.weight, features.0.bias")),
        (models.vit_b_32, ("neither resnet50 nor mobilenet_v3_small", "class_token, conv_proj.weight")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_backbones_are_told_by_name_and_shape(make: Callable[..., nn.Module], told: tuple[str, ...]) -> None:
    said = refusal(on_meta(make, num_classes=3))
    assert [part for part in told if part not in said] == [], said


def without(name: str) -> Change:
    return lambda state: {key: value for key, value in state.items() if key != name}


def with_value(name: str, value: torch.Tensor) -> Change:
    return lambda state: {**state, name: value}


def filled(name: str, number: float) -> Change:
    return lambda state: {**state, name: torch.full_like(state[name], number)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("features.3.block.0.0.weight"), "as mobilenet_v3_small, it lacks features.3.block.0.0.weight"),
        (without("features.0.1.running_mean"), "it lacks features.0.1.running_mean"),
        (with_value("features.0.0.weight", torch.ones(16, 1, 3, 3)), "is (16, 1, 3, 3) instead of (16, 3, 3, 3)"),
        (
            with_value("classifier.3.weight", torch.ones(2, 256)),
            "3 classes (empty, with_beverage, unclear), but it has",
        ),
        (with_value("classifier.3.weight", torch.ones(1000, 256)), "classifier.3 256→1000"),
        (with_value("classifier.3.bias", torch.ones(2)), "its head must lead from 576 features"),
        (with_value("classifier.0.weight", torch.ones(256, 1024)), "classifier.0 1024→256, classifier.3 256→3"),
        (with_value("classifier.6.weight", torch.ones(3, 3)), "at most one hidden layer"),
        (without("classifier.3.weight"), "holds what no fully connected head has: classifier.3.bias (3,)"),
        (with_value("classifier.1.weight", torch.ones(256)), "classifier.1.weight (256,)"),
        (with_value("mean", torch.ones(1, 3, 1, 1)), "mean (1, 3, 1, 1)"),
        (with_value("head2.weight", torch.ones(3, 576)), "head2 576→3"),
        (filled("features.0.0.weight", float("nan")), "features.0.0.weight is not finite everywhere"),
        (filled("features.0.1.running_var", float("inf")), "features.0.1.running_var is not finite everywhere"),
        (filled("classifier.3.bias", float("-inf")), "classifier.3.bias is not finite everywhere"),
        (
            with_value("classifier.0.weight", torch.ones(256, 576, dtype=torch.int8)),
            "classifier.0.weight is torch.int8",
        ),
        (with_value("phase", torch.ones(3, dtype=torch.complex64)), "phase is torch.complex64"),
        (
            with_value("classifier.0.weight", torch.quantize_per_tensor(torch.ones(256, 576), 0.1, 0, torch.qint8)),
            "quantized weights can't be read",
        ),
        (
            lambda state: {name: value for name, value in state.items() if not name.startswith("classifier")},
            "but it has no layer",
        ),
        (
            lambda state: {**renamed(state, ("", "student.")), **renamed(state, ("", "teacher.m."))},
            "teacher.m.features",
        ),
        (lambda state: dict(list(state.items())[:4]), "and 198 more"),
        (lambda state: {}, "neither resnet50 nor mobilenet_v3_small"),
    ],
)
def test_what_does_not_fit_is_told(change: Change, told: str, beverage: nn.Module) -> None:
    assert told in refusal(change(beverage.state_dict()))


def test_batch_norm_in_the_head_is_told() -> None:
    head = nn.Sequential(nn.Linear(576, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 3))
    said = refusal(mobilenet(1, head).state_dict())
    assert said.startswith("beside the mobilenet_v3_small backbone it holds what no fully connected head has: ")
    assert "classifier.1.running_mean (256,)" in said


def test_a_deep_head_is_told_layer_by_layer() -> None:
    head = nn.Sequential(nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    said = refusal(mobilenet(1, head).state_dict())
    assert "at most one hidden layer" in said
    assert "classifier.0 576→64, classifier.2 64→32, classifier.4 32→3" in said


def test_the_other_tasks_weights_are_told(container: nn.Module, beverage: nn.Module) -> None:
    assert "2 classes (disposable, reusable), but it has classifier.0 576→256, classifier.3 256→3" in refusal(
        beverage.state_dict(), CONTAINERS
    )
    assert "3 classes (empty, with_beverage, unclear), but it has fc.0 2048→512, fc.3 512→2" in refusal(
        container.state_dict()
    )


def test_names_that_no_order_explains_are_not_guessed(beverage: nn.Module) -> None:
    """Safetensors come sorted, so other names have no order that could be read."""
    state = renamed(beverage.state_dict(), ("features.", "trunk.part"))
    stored = read_weights(as_safetensors(state))
    assert list(stored.tensors) != [name for name in state if name in stored.tensors]
    assert "its backbone does not fit: as mobilenet_v3_small, it lacks trunk.part" in refusal(stored.tensors)


def test_two_backbones_in_one_order_are_not_guessed(beverage: nn.Module) -> None:
    state = beverage.state_dict()
    both = {**renamed(state, ("features.", "a.part")), **renamed(state, ("features.", "b.part"))}
    assert "its backbone does not fit: as mobilenet_v3_small, it lacks a.part" in refusal(both)
