"""What `auto` means, and which devices are refused, on machines with and without a GPU."""

from __future__ import annotations

import ctranslate2
import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.devices import ctranslate2_device, torch_device


def see_gpus(monkeypatch: pytest.MonkeyPatch, num_gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: num_gpus)


@pytest.mark.parametrize(("num_gpus", "kind"), [(0, "cpu"), (2, "cuda")])
def test_auto_is_a_gpu_where_there_is_one(num_gpus: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    see_gpus(monkeypatch, num_gpus)
    assert torch_device("auto").type == kind
    assert ctranslate2_device("auto") == (kind, 0)


def test_a_named_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    see_gpus(monkeypatch, 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name in ("cpu", "cuda", "cuda:1", "mps"):
        assert torch_device(name) == torch.device(name)
    assert ctranslate2_device("cpu") == ("cpu", 0)
    assert ctranslate2_device("cuda:1") == ("cuda", 1)


@pytest.mark.parametrize(
    ("num_gpus", "name", "reason"),
    [
        (1, "cuda:1", "torch finds 1 GPUs here"),
        (0, "cuda", "torch finds 0 GPUs here; set it to auto or cpu"),
        (0, "mps", "no Apple GPU"),
        (0, "abacus", "'abacus' is no device; use auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_torch_refuses_a_device_that_is_not_there(
    num_gpus: int, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, num_gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelLoadingError, match=reason):
        torch_device(name)


@pytest.mark.parametrize(("name", "reason"), [("cuda", "CTranslate2 finds no GPU here"), ("mps", "no mps device")])
def test_ctranslate2_refuses_a_device_that_is_not_there(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, 0)
    with pytest.raises(ModelLoadingError, match=reason):
        ctranslate2_device(name)
