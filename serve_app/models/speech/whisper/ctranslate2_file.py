"""The binary format of CTranslate2's `model.bin`: which variables it holds, and where.

Source: `ModelSpec._serialize` in ctranslate2/specs/model_spec.py, binary version 6, which every converter of Whisper
writes. Name, shape and type stand before each variable's bytes, so that they are read without the weights.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import ModelLoadingError

_BINARY_VERSION = 6
# in the order of the numbers that stand for them
_FORMATS = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_ITEM_BYTES = (4, 1, 2, 4, 2, 2)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a model.

    Attributes:
        shape: its dimensions; () for a scalar.
        number_format: "float32", "float16", "bfloat16", "int8", "int16" or "int32".
        offset_bytes: where its content begins in the file.
        num_bytes: of its content.
    """

    shape: tuple[int, ...]
    number_format: str
    offset_bytes: int
    num_bytes: int


def read_variables(path: Path, spec: str, revision: int) -> dict[str, Variable]:
    """Return a model's variables by name; an alias stands for the variable that it names.

    Args:
        path: `model.bin`.
        spec: name of CTranslate2's specification that the model must have.
        revision: of that specification.

    Raises:
        ModelLoadingError: the file is missing, cut off, broken, of another version, or holds another kind of model.
    """
    try:
        with path.open("rb") as file:
            reader = _Reader(file)
            found = reader.number("I")
            if found != _BINARY_VERSION:
                raise ModelLoadingError(
                    f"{path} is no CTranslate2 model of binary version {_BINARY_VERSION} (it begins with {found}); "
                    "fetch it again, or convert the original checkpoint with a current ctranslate2"
                )
            name, at = reader.string(), reader.number("I")
            if (name, at) != (spec, revision):
                raise ModelLoadingError(
                    f"{path} holds a CTranslate2 model of the kind {name!r}, revision {at}, where {spec}, revision "
                    f"{revision}, is needed; name another checkpoint"
                )
            variables = dict(reader.variable() for _ in range(reader.number("I")))
            for _ in range(reader.number("I")):
                alias, original = reader.string(), reader.string()
                variables[alias] = variables[original]
            if not reader.is_at_end():
                raise ValueError("bytes follow the last variable")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ModelLoadingError(f"{path} is cut off or broken ({error}); fetch it again") from error
    return variables


def read_bytes(path: Path, variable: Variable) -> NDArray[np.uint8]:
    """Return the content of a variable, one dimension of bytes."""
    return np.fromfile(path, np.uint8, count=variable.num_bytes, offset=variable.offset_bytes)


class _Reader:
    """Reads the header piece by piece. Raises ValueError where the file ends too early."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size_bytes = os.fstat(file.fileno()).st_size

    def number(self, code: str) -> int:
        """Return an unsigned number of `struct`'s code, little-endian."""
        return self._numbers(code)[0]

    def string(self) -> str:
        """Return a string that is written with its length, a zero at its end."""
        return self._bytes(self.number("H"))[:-1].decode("utf-8")

    def variable(self) -> tuple[str, Variable]:
        """Return a variable's name and place, and go to its end."""
        name = self.string()
        shape = self._numbers(f"{self.number('B')}I")
        number_format = self.number("B")
        num_bytes, offset_bytes = self.number("I"), self._file.tell()
        if num_bytes != math.prod(shape) * _ITEM_BYTES[number_format]:
            raise ValueError(f"{name} has {num_bytes} bytes for the shape {list(shape)}")
        if offset_bytes + num_bytes > self._size_bytes:
            raise ValueError(f"the file ends in {name}")
        self._file.seek(num_bytes, os.SEEK_CUR)
        return name, Variable(shape, _FORMATS[number_format], offset_bytes, num_bytes)

    def is_at_end(self) -> bool:
        """Whether everything is read."""
        return self._file.tell() == self._size_bytes

    def _numbers(self, codes: str) -> tuple[int, ...]:
        return struct.unpack(f"<{codes}", self._bytes(struct.calcsize(f"<{codes}")))

    def _bytes(self, count: int) -> bytes:
        content = self._file.read(count)
        if len(content) < count:
            raise ValueError("the file ends in its header")
        return content
