"""`unused_packages_deferred`: imports pyannote without packages that it never uses, in half the time (14 s to 6.5 s).

`lightning` and `pyannote.audio` use `Metric` and `MetricCollection` of torchmetrics, `OptimizedModule` and `disable` of
torch._dynamo, and pandas for reports. The package files of these three import every metric there is (with transformers,
torchvision and librosa), all of torch.compile (with sympy), and pandas itself.

While pyannote is imported, stand-ins for the three packages lie in `sys.modules`, and their package files do not run.
Submodules are imported as always, the metric classes come from where they are defined, and the other names have
stand-ins that find the real object when they are used. Any further name runs the package file after all. Afterwards the
stand-ins are removed: a later import is an ordinary one. Once pyannote imports none of the three, this module can go.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _LazyPackage(ModuleType):
    """A package whose file runs when a name is used that `_finders` does not have."""

    _finders: dict[str, Callable[[], Any]]

    def __getattr__(self, name: str) -> Any:
        if name in self._finders:
            return self._finders[name]()
        if name.startswith("__"):  # the import system looks for `__all__`, `__wrapped__`, which may not exist
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # first: the file asks its package for names
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _loaded(package: str) -> Any:
    """Return the package if its file has run in this process, else None."""
    module = sys.modules.get(package)
    return None if isinstance(module, _LazyPackage) else module


def _stand_in(package: str, name: str) -> type:
    """Return a class for a package's class: isinstance is exact, and a call returns an object of the real class."""

    class StandInType(type):
        def __instancecheck__(cls, instance: object) -> bool:
            module = _loaded(package)  # where it was never loaded, no object is of its class
            return module is not None and isinstance(instance, getattr(module, name))

        def __call__(cls, *args: Any, **named_args: Any) -> Any:
            return getattr(importlib.import_module(package), name)(*args, **named_args)

    return StandInType(name, (), {})


def _disable(function: Callable[..., Any], *options: Any, **named_options: Any) -> Callable[..., Any]:
    """Work as torch._dynamo.disable once torch.compile is in use; until then there is nothing to disable."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        dynamo = _loaded("torch._dynamo")
        if dynamo is None:
            return function(*args, **kwargs)
        return dynamo.disable(function, *options, **named_options)(*args, **kwargs)

    return call


def _metric() -> Any:
    importlib.import_module("torchmetrics.utilities")  # first: it and the metric module import each other
    return importlib.import_module("torchmetrics.metric").Metric


def _metric_collection() -> Any:
    _metric()
    return importlib.import_module("torchmetrics.collections").MetricCollection


_OPTIMIZED_MODULE, _DATA_FRAME = _stand_in("torch._dynamo", "OptimizedModule"), _stand_in("pandas", "DataFrame")
_FINDERS: dict[str, dict[str, Callable[[], Any]]] = {
    "torchmetrics": {
        "Metric": _metric,
        "MetricCollection": _metric_collection,
        "__version__": lambda: importlib.metadata.version("torchmetrics"),
        "_logger": lambda: logging.getLogger("torchmetrics"),
    },
    "torch._dynamo": {"OptimizedModule": lambda: _OPTIMIZED_MODULE, "disable": lambda: _disable},
    "pandas": {"DataFrame": lambda: _DATA_FRAME},
}


@contextmanager
def unused_packages_deferred() -> Iterator[None]:
    """Replace the packages by stand-ins inside; one that is imported already stays."""
    deferred = [package for name in _FINDERS if (package := _defer(name)) is not None]
    try:
        yield
    finally:
        for package in deferred:
            if isinstance(package, _LazyPackage) and sys.modules.get(package.__name__) is package:
                del sys.modules[package.__name__]
                parent, _, child = package.__name__.rpartition(".")
                if parent and vars(sys.modules[parent]).get(child) is package:
                    delattr(sys.modules[parent], child)


def _defer(name: str) -> _LazyPackage | None:
    if name in sys.modules:
        return None
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return None
    package = _LazyPackage(name)
    package.__spec__ = spec
    package.__loader__ = spec.loader
    package.__file__ = spec.origin
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__package__ = name
    package.__dict__["_finders"] = _FINDERS[name]
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)
    return package
