"""`Machine`: runs the opcodes of a pickle on plain values; it calls nothing that the pickle names."""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.sentences import Sentence

MAX_PICKLE_BYTES = 64 * 1024**2  # of the pickle alone: a checkpoint of 1000 tensors has 0.13 MiB
_MAX_OPCODES = 2_000_000
_MAX_DEPTH = 32
_PROTOCOL = 2  # the one that torch.save writes, and the one that torch reads with weights_only

REMEDY = Sentence("save model.state_dict() as safetensors instead")


class Refused(Exception):
    """Why a file is not read: the rest of a sentence that begins with the file's name, as "it is damaged"."""


@dataclass(frozen=True, slots=True)
class Name:
    """A function or a class that a pickle names."""

    text: str


@dataclass(slots=True, eq=False)
class PlainObject:
    """What a pickle says about an object of an allowed class; the object itself is not made.

    Its arguments and its state may hold it again, as those of omegaconf do.
    """

    name: str
    arguments: tuple[Any, ...] = field(repr=False)
    state: Any = field(default=None, repr=False)


Builder = Callable[[tuple[Any, ...]], Any]


class Machine:
    """Runs pickles with the opcodes that torch.save writes.

    Args:
        builders: by the full name of a function: what makes its result of its arguments.
        constants: by full name: values that stand for themselves, such as number formats.
        plain: full names of classes whose objects are returned as PlainObject.
        persistent: makes a value of a persistent id.
    """

    def __init__(
        self,
        builders: Mapping[str, Builder],
        constants: Mapping[str, Any],
        plain: frozenset[str],
        persistent: Callable[[Any], Any],
    ) -> None:
        self._builders = builders
        self._constants = constants
        self._plain = plain
        self._persistent = persistent

    def run(self, pickled: bytes) -> tuple[Any, int]:
        """Return the value of the pickle at the start of the bytes, and how many bytes it takes.

        Raises:
            Refused: it needs more than plain values, or is too large.
            Exception: of any kind, where the bytes are no pickle.
        """
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def popped(kind: type | tuple[type, ...] = object) -> Any:
            if marks and len(stack) <= marks[-1]:
                raise Refused(Sentence("it is damaged: its pickle takes values that are not there"))
            value = stack.pop()
            if not isinstance(value, kind):
                raise Refused(
                    Sentence(
                        "its pickle uses a {value} as something else; {remedy}",
                        value=type(value).__name__,
                        remedy=REMEDY,
                    )
                )
            return value

        def marked() -> list[Any]:
            first = marks.pop()
            values = stack[first:]
            del stack[first:]
            return values

        steps: Iterator[tuple[pickletools.OpcodeInfo, Any, Any]] = pickletools.genops(pickled)
        for count, (opcode, argument, position) in enumerate(steps):
            if count > _MAX_OPCODES:
                raise Refused(
                    Sentence(
                        "its pickle has more than {max_opcodes} opcodes; {remedy}",
                        max_opcodes=_MAX_OPCODES,
                        remedy=REMEDY,
                    )
                )
            match opcode.name:
                case "PROTO":
                    if argument != _PROTOCOL:
                        raise Refused(
                            Sentence(
                                "its pickle has protocol {argument}, where torch.save writes {protocol}",
                                argument=argument,
                                protocol=_PROTOCOL,
                            )
                        )
                case "STOP":
                    value = popped()
                    if stack or marks:
                        raise Refused(Sentence("it is damaged: its pickle ends too early"))
                    _check_shape(value)
                    return value, position + 1
                case "MARK":
                    marks.append(len(stack))
                case "NONE":
                    stack.append(None)
                case "NEWTRUE":
                    stack.append(True)
                case "NEWFALSE":
                    stack.append(False)
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINSTRING":
                    stack.append(argument)
                case "EMPTY_TUPLE":
                    stack.append(())
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "TUPLE":
                    stack.append(tuple(marked()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    values = [popped() for _ in range(int(opcode.name[-1]))]
                    stack.append(tuple(reversed(values)))
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "APPEND":
                    value = popped()
                    _list(stack[-1]).append(value)
                case "APPENDS":
                    values = marked()
                    _list(stack[-1]).extend(values)
                case "SETITEM":
                    value, key = popped(), popped()
                    _dict(stack[-1])[_key(key)] = value
                case "SETITEMS":
                    values = marked()
                    target = _dict(stack[-1])
                    for key, value in zip(values[::2], values[1::2], strict=True):
                        target[_key(key)] = value
                case "GLOBAL":
                    stack.append(self._named(argument))
                case "REDUCE":
                    arguments, function = popped(tuple), popped(Name)
                    stack.append(self._built(function, arguments))
                case "NEWOBJ":
                    arguments, function = popped(tuple), popped(Name)
                    if function.text not in self._plain:
                        raise Refused(
                            Sentence(
                                "its pickle makes a {text} in an unusual way; {remedy}",
                                text=function.text,
                                remedy=REMEDY,
                            )
                        )
                    stack.append(PlainObject(function.text, arguments))
                case "BUILD":
                    state = popped()
                    _give_state(stack[-1], state)
                case "BINPERSID":
                    stack.append(self._persistent(popped(tuple)))
                case other:
                    raise Refused(
                        Sentence(
                            "its pickle has the opcode {other}, which torch.save does not write; {remedy}",
                            other=other,
                            remedy=REMEDY,
                        )
                    )
        raise Refused(Sentence("it is damaged: its pickle has no end"))

    def _named(self, argument: str) -> Any:
        module, _, name = argument.partition(" ")
        text = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if text in self._constants:
            return self._constants[text]
        if text in self._builders or text in self._plain:
            return Name(text)
        raise Refused(
            Sentence(
                "it holds Python objects ({text}), which might run code and are not loaded (a whole model, saved "
                "by torch.save(model)?): save model.state_dict() instead, best as safetensors",
                text=text[:200],
            )
        )

    def _built(self, function: Name, arguments: tuple[Any, ...]) -> Any:
        if builder := self._builders.get(function.text):
            return builder(arguments)
        return PlainObject(function.text, arguments)


def _list(target: Any) -> list[Any]:
    if type(target) is not list:
        raise Refused(
            Sentence("its pickle appends to a {target}; {remedy}", target=type(target).__name__, remedy=REMEDY)
        )
    return target


def _dict(target: Any) -> dict[Any, Any]:
    if type(target) not in (dict, OrderedDict):
        raise Refused(
            Sentence("its pickle sets items of a {target}; {remedy}", target=type(target).__name__, remedy=REMEDY)
        )
    return target


def _key(key: Any) -> str | int | None:
    """Return a key of a dict; others can be made that take very long to hash, or have one hash."""
    if key is None or isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**63):
        return key
    raise Refused(
        Sentence("its pickle has a {key} as the key of a dict; {remedy}", key=type(key).__name__, remedy=REMEDY)
    )


def _give_state(target: Any, state: Any) -> None:
    if isinstance(target, PlainObject) and target.state is None:
        target.state = state
    elif type(target) is OrderedDict:
        # versions of modules, by which torch converts the tensors of old ones
        metadata = state.get("_metadata") if isinstance(state, dict) else None
        if isinstance(metadata, dict) and all(_is_versions(value) for value in metadata.values()):
            target._metadata = metadata  # type: ignore[attr-defined]
    else:
        raise Refused(
            Sentence("its pickle sets the state of a {target}; {remedy}", target=type(target).__name__, remedy=REMEDY)
        )


def _is_versions(value: Any) -> bool:
    return isinstance(value, dict) and all(type(number) is int for number in value.values())


def _check_shape(value: Any) -> None:
    """Refuse values that hold themselves, are nested too deeply, or hold one part so often that they can't be shown."""
    sizes: dict[int, tuple[int, int]] = {}  # id -> depth, and parts with repetitions
    limit = 4 * MAX_PICKLE_BYTES

    def measured(part: Any, level: int) -> tuple[int, int]:
        if isinstance(part, dict):
            parts: tuple[Any, ...] = (*part, *part.values())
        elif isinstance(part, list | tuple):
            parts = tuple(part)
        else:
            return 0, len(part) if isinstance(part, str | bytes) else 1
        if level > _MAX_DEPTH:
            raise Refused(
                Sentence(
                    "its values are nested deeper than {max_depth}, or hold themselves; {remedy}",
                    max_depth=_MAX_DEPTH,
                    remedy=REMEDY,
                )
            )
        if id(part) not in sizes:
            inner = [measured(each, level + 1) for each in parts]
            sizes[id(part)] = 1 + max((depth for depth, _ in inner), default=0), 1 + sum(size for _, size in inner)
        depth, size = sizes[id(part)]
        if level + depth > _MAX_DEPTH + 1 or size > limit:
            raise Refused(
                Sentence(
                    "its values are nested deeper than {max_depth}, or repeat too often; {remedy}",
                    max_depth=_MAX_DEPTH,
                    remedy=REMEDY,
                )
            )
        return depth, size

    measured(value, 1)
