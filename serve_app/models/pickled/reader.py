"""`read_checkpoint`: the values in a file of torch.save, in either of its forms."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from serve_app.models.pickled.archive import Record, records_of
from serve_app.models.pickled.machine import MAX_PICKLE_BYTES, REMEDY, Machine, Refused
from serve_app.models.pickled.tensors import CONSTANTS, PLAIN, OpenStorage, Tensors
from serve_app.sentences import Sentence

_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py: the first pickle of the form before torch 1.6
_LEGACY_VERSION = 1001
_ALIGNMENT = 16  # bytes, of the longest element
_ELEMENT_BYTES = (1, 2, 4, 8, 16)
# numpy's plain numbers, e.g. a best accuracy, as numpy 2 and numpy 1 write them
PLAIN_NUMBERS = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", "numpy.dtype")
_NO_WEIGHTS = Sentence("it is no file of weights: neither of torch.save nor safetensors")


def read_checkpoint(source: Path | bytes, plain: Iterable[str] = ()) -> Any:
    """Return what torch.save wrote: dicts, lists, numbers, texts, and tensors on the CPU.

    No code in the file runs, and every tensor lies inside the file. An OrderedDict stays one; a Parameter becomes a
    tensor, a torch.Size a tuple.

    Args:
        source: the file, or its bytes. Tensors of a path are mapped from the file, those of bytes are copies.
        plain: full names of classes whose objects may be in it; they come back as PlainObject.

    Raises:
        Refused: it is damaged, is another kind of file, or holds more than such values.
        OSError: the file can't be opened.
    """
    allowed = PLAIN | frozenset(plain)
    file = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    try:
        with file:
            content = _Content(source)
            if content.read(0, 2) == b"PK":
                return _from_archive(content, records_of(file), allowed)
            return _from_legacy(content, allowed)
    except Refused:
        raise
    except Exception as error:  # what the parsers of archives, pickles and numbers raise on an unknown file
        raise Refused(
            Sentence(
                "it is damaged, or no file of weights ({reason}); {remedy}", reason=_first_line(error), remedy=REMEDY
            )
        ) from error


class _Content:
    """The bytes of a file, or bytes."""

    def __init__(self, source: Path | bytes) -> None:
        self._mapped: torch.UntypedStorage | None = None
        self._view = memoryview(b"")
        if isinstance(source, bytes):
            self._view = memoryview(source)
        elif length := source.stat().st_size:
            mapped: Any = torch.UntypedStorage.from_file(str(source), False, length)
            self._mapped, self._view = mapped, _view_of(mapped)
        self.length = len(self._view)

    def read(self, start: int, length: int) -> bytes:
        return bytes(self._view[start : start + length])

    def storage(self, start: int, length: int) -> torch.UntypedStorage:
        if self._mapped is not None and length and start % _ALIGNMENT == 0:
            return self._mapped[start : start + length]
        copied = torch.UntypedStorage(length)
        if length:
            _view_of(copied)[:] = self._view[start : start + length]
        return copied


def _view_of(storage: torch.UntypedStorage) -> memoryview:
    octets: Any = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    return memoryview(octets)


def _from_archive(content: _Content, records: Mapping[str, Record], plain: frozenset[str]) -> Any:
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Refused(_NO_WEIGHTS)
    folder = pickles[0].removesuffix("data.pkl")
    order = records.get(f"{folder}byteorder")
    if order is not None and content.read(order.start, min(order.length, 16)) != b"little":
        raise Refused(Sentence("its numbers are not little-endian; {remedy}", remedy=REMEDY))

    def storage(key: str, num_bytes: int) -> torch.UntypedStorage:
        record = records.get(f"{folder}data/{key}", Record(0, -1))
        if record.length != num_bytes:
            raise Refused(
                Sentence(
                    "its storage {key} needs {num_bytes} bytes, its record has {length}; {remedy}",
                    key=repr(key[:80]),
                    num_bytes=num_bytes,
                    length=record.length,
                    remedy=REMEDY,
                )
            )
        return content.storage(record.start, num_bytes)

    record = records[pickles[0]]
    if record.length > MAX_PICKLE_BYTES:
        raise Refused(
            Sentence(
                "its pickle has {length} bytes, more than {max_pickle_bytes}; {remedy}",
                length=record.length,
                max_pickle_bytes=MAX_PICKLE_BYTES,
                remedy=REMEDY,
            )
        )
    pickled = content.read(record.start, record.length)
    return _run(pickled, storage, content.length, plain)[0]


def _from_legacy(content: _Content, plain: frozenset[str]) -> Any:
    """Read five pickles (magic, version, system, values, keys), and per key its number of elements and its bytes."""

    def no_storage(key: str, num_bytes: int) -> None:
        raise Refused(_NO_WEIGHTS)

    def pickle_at(start: int, storage: OpenStorage = no_storage) -> tuple[Any, int]:
        value, length = _run(content.read(start, MAX_PICKLE_BYTES), storage, content.length, plain)
        return value, start + length

    try:
        magic, after_magic = pickle_at(0)
        version, after_version = pickle_at(after_magic)
    except Exception as error:
        raise Refused(_NO_WEIGHTS) from error
    if (magic, version) != (_MAGIC, _LEGACY_VERSION):
        raise Refused(_NO_WEIGHTS)
    system, values_at = pickle_at(after_version)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused(Sentence("its numbers are not little-endian; {remedy}", remedy=REMEDY))
    lengths: dict[str, int] = {}
    _, keys_at = pickle_at(values_at, lengths.__setitem__)  # counts only: the storages lie behind
    keys, position = pickle_at(keys_at)
    if not isinstance(keys, list) or sorted(keys) != sorted(lengths):
        raise Refused(Sentence("its list of storages is not that of its tensors; {remedy}", remedy=REMEDY))
    places: dict[str, int] = {}
    for key in keys:
        if position + 8 + lengths[key] > content.length:
            raise Refused(
                Sentence("it is damaged: it ends within its storage {key}; fetch it again", key=repr(key[:80]))
            )
        elements = int.from_bytes(content.read(position, 8), "little")
        if all(elements * size != lengths[key] for size in _ELEMENT_BYTES):
            raise Refused(
                Sentence(
                    "its storage {key} needs {lengths} bytes, its record has {elements} elements",
                    key=repr(key[:80]),
                    lengths=lengths[key],
                    elements=elements,
                )
            )
        places[key] = position + 8
        position += 8 + lengths[key]
    return pickle_at(values_at, lambda key, num_bytes: content.storage(places[key], num_bytes))[0]


def _run(pickled: bytes, storage: OpenStorage, file_bytes: int, plain: frozenset[str]) -> tuple[Any, int]:
    tensors = Tensors(storage, file_bytes)
    return Machine(tensors.builders, CONSTANTS, plain, tensors.persistent).run(pickled)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
