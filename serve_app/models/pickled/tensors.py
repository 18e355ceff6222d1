"""Tensors of a checkpoint, each inside its storage, and each storage exactly as long as its record."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from serve_app.models.pickled.machine import REMEDY, Builder, Refused
from serve_app.sentences import Sentence

_STORAGES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_MAX_DIMENSIONS = 32
_MAX_SIZE = 2**48
_MAX_COPIES = 8  # tensors may share storages, as tied weights do; written apart they may take this many times the file


@dataclass(frozen=True, slots=True)
class StorageType:
    """The type of a storage; no number format: the tensors name it."""

    dtype: torch.dtype | None


@dataclass(frozen=True, slots=True)
class Storage:
    """A record's bytes; `memory` is None while only sizes are counted."""

    dtype: torch.dtype | None
    num_bytes: int
    memory: torch.UntypedStorage | None


CONSTANTS: dict[str, Any] = {
    **{f"torch.{name}Storage": StorageType(dtype) for name, dtype in _STORAGES.items()},
    "torch.UntypedStorage": StorageType(None),
    "torch.storage.UntypedStorage": StorageType(None),
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
}
# objects beside tensors in many checkpoints
PLAIN = frozenset({"torch.device", "torch.torch_version.TorchVersion"})

OpenStorage = Callable[[str, int], torch.UntypedStorage | None]


class Tensors:
    """Makes storages and tensors of what a pickle says about them.

    Args:
        open_storage: returns the bytes of a key, exactly that many, or raises Refused.
        file_bytes: of the file, for the bound on all tensors together.
    """

    def __init__(self, open_storage: OpenStorage, file_bytes: int) -> None:
        self._open = open_storage
        self._opened: dict[str, Storage] = {}
        self._left = _MAX_COPIES * file_bytes
        self.builders: dict[str, Builder] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch.Size": lambda arguments: tuple(arguments[0]),
            "collections.OrderedDict": _ordered,
            "collections.defaultdict": lambda arguments: {},
            "_codecs.encode": _encoded,
        }

    def persistent(self, given: tuple[Any, ...]) -> Storage:
        """Return the storage of a persistent id: ("storage", type, key, location, elements), and None in old files."""
        kind, stored_as, key, _, elements, *view = given
        if kind != "storage" or not isinstance(stored_as, StorageType) or not isinstance(key, str) or any(view):
            raise Refused(
                Sentence(
                    "it stores tensors in a form that torch no longer writes; load it in torch, and {remedy}",
                    remedy=REMEDY,
                )
            )
        num_bytes = _count(elements) * (stored_as.dtype.itemsize if stored_as.dtype else 1)
        known = self._opened.get(key)
        if known is None:
            known = self._opened[key] = Storage(stored_as.dtype, num_bytes, self._open(key, num_bytes))
        elif known.num_bytes != num_bytes:
            raise Refused(Sentence("it gives two lengths to the storage {key}; {remedy}", key=repr(key), remedy=REMEDY))
        return Storage(stored_as.dtype, num_bytes, known.memory)

    def _tensor(self, arguments: tuple[Any, ...]) -> torch.Tensor | None:
        storage, offset, size, stride, *others = arguments
        _require_plain(others[2:])
        return self._made(storage, storage.dtype, offset, size, stride)

    def _tensor_v3(self, arguments: tuple[Any, ...]) -> torch.Tensor | None:
        storage, offset, size, stride, _, _, dtype, *others = arguments
        _require_plain(others)
        return self._made(storage, dtype, offset, size, stride)

    def _made(self, storage: Any, dtype: Any, offset: Any, size: Any, stride: Any) -> torch.Tensor | None:
        if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
            raise Refused(Sentence("it has a tensor without a storage; {remedy}", remedy=REMEDY))
        sizes, strides = [_count(each) for each in size], [_count(each) for each in stride]
        if len(sizes) != len(strides) or len(sizes) > _MAX_DIMENSIONS:
            raise Refused(
                Sentence(
                    "it has a tensor with {num} sizes and {num2} strides; {remedy}",
                    num=len(sizes),
                    num2=len(strides),
                    remedy=REMEDY,
                )
            )
        count, room = math.prod(sizes), storage.num_bytes // dtype.itemsize
        span = 1 + sum((each - 1) * step for each, step in zip(sizes, strides, strict=True)) if count else 0
        if count > room or _count(offset) + span > room:
            raise Refused(
                Sentence(
                    "it has a tensor of shape {sizes} that reaches outside of its storage of {room} elements; {remedy}",
                    sizes=tuple(sizes),
                    room=room,
                    remedy=REMEDY,
                )
            )
        self._left -= count * dtype.itemsize
        if self._left < 0:
            raise Refused(
                Sentence(
                    "its tensors take more than {max_copies} times the file's bytes; {remedy}",
                    max_copies=_MAX_COPIES,
                    remedy=REMEDY,
                )
            )
        if storage.memory is None:
            return None
        return torch.empty(0, dtype=dtype).set_(storage.memory, offset, sizes, strides)


def _count(number: Any) -> int:
    if type(number) is not int or not 0 <= number <= _MAX_SIZE:
        raise Refused(Sentence("it has a size or a place that is no count; {remedy}", remedy=REMEDY))
    return number


def _require_plain(marks: list[Any]) -> None:
    """Refuse marks behind a tensor's arguments: {"conj": True}, {"neg": True} say that its numbers are other ones."""
    if any(marks):
        raise Refused(
            Sentence(
                "it has a tensor whose numbers are not stored as they are; call its resolve_conj(), and {remedy}",
                remedy=REMEDY,
            )
        )


def _parameter(arguments: tuple[Any, ...]) -> torch.Tensor | None:
    tensor = arguments[0]
    if tensor is not None and not isinstance(tensor, torch.Tensor):
        raise Refused(Sentence("it has a parameter without a tensor; {remedy}", remedy=REMEDY))
    return tensor


def _ordered(arguments: tuple[Any, ...]) -> OrderedDict[Any, Any]:
    if arguments:
        raise Refused(Sentence("it has an OrderedDict in an unusual form; {remedy}", remedy=REMEDY))
    return OrderedDict()


def _encoded(arguments: tuple[Any, ...]) -> bytes:
    """Return bytes, which protocol 2 writes as text."""
    text, encoding = arguments
    if encoding != "latin1" or not isinstance(text, str):
        raise Refused(Sentence("it has bytes in an unusual form; {remedy}", remedy=REMEDY))
    return text.encode("latin1")
