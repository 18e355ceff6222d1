"""Import pyannote without two packages that it never uses: more than half of its import time, for four names.

`lightning` and `pyannote.audio` want `Metric` and `MetricCollection` of torchmetrics (to subclass and to compare types)
and `OptimizedModule` and `disable` of torch._dynamo (for isinstance, and to mark a method of the trainer). The package files of the two, however, import every
metric there is (with transformers, torchvision and sklearn) and the whole of torch.compile (with sympy).

So both packages are entered in `sys.modules` with their own files not yet run. Nothing is faked: submodules import as
always, the classes come from where they are defined, and the first use of any other name runs the package file after
all. Once torch.compile is used, for instance, everything is as it would have been.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _LazyPackage(ModuleType):
    """A package whose own file runs when a name is asked for that is not known without it."""

    _finders: dict[str, Callable[[], Any]]

    def __getattr__(self, name: str) -> Any:
        # The import system looks for dunders (`__all__`, `__wrapped__`) that may well not exist: no reason to run.
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in self._finders:
            return self._finders[name]()
        return getattr(_run(self), name)


def _run(package: ModuleType) -> ModuleType:
    """Run a deferred package's own file, in place."""
    if isinstance(package, _LazyPackage):
        package.__class__ = ModuleType  # first: the file asks its package for names while it runs
        assert package.__spec__ is not None
        assert package.__spec__.loader is not None
        package.__spec__.loader.exec_module(package)
    return package


class _OptimizedModuleType(type):
    """Make isinstance exact without torch._dynamo: where that was never run, nothing can be one of its modules."""

    def __instancecheck__(cls, instance: object) -> bool:
        package = sys.modules["torch._dynamo"]
        return not isinstance(package, _LazyPackage) and isinstance(instance, package.OptimizedModule)


class _OptimizedModule(metaclass=_OptimizedModuleType):
    """Stands for torch._dynamo.OptimizedModule in isinstance."""


def _disable(function: Callable[..., Any], *options: Any, **named_options: Any) -> Callable[..., Any]:
    """Do as torch._dynamo.disable does once torch.compile is in use; until then there is nothing to disable."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        package = sys.modules["torch._dynamo"]
        if isinstance(package, _LazyPackage):
            return function(*args, **kwargs)
        return package.disable(function, *options, **named_options)(*args, **kwargs)

    return call


def _metric() -> Any:
    importlib.import_module("torchmetrics.utilities")  # first: it and the metric module import each other
    return importlib.import_module("torchmetrics.metric").Metric


def _metric_collection() -> Any:
    _metric()
    return importlib.import_module("torchmetrics.collections").MetricCollection


_FINDERS: dict[str, dict[str, Callable[[], Any]]] = {
    "torchmetrics": {
        "Metric": _metric,
        "MetricCollection": _metric_collection,
        "__version__": lambda: importlib.metadata.version("torchmetrics"),
        "_logger": lambda: logging.getLogger("torchmetrics"),
    },
    "torch._dynamo": {"OptimizedModule": lambda: _OptimizedModule, "disable": lambda: _disable},
}


def defer_unused_packages() -> None:
    """Put the packages off until more than those names is asked for; call before pyannote is imported.

    A package that is imported already, or is not there, is left as it is.
    """
    for name, finders in _FINDERS.items():
        if name in sys.modules:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            continue
        package = _LazyPackage(name)
        package.__spec__ = spec
        package.__loader__ = spec.loader
        package.__file__ = spec.origin
        package.__path__ = list(spec.submodule_search_locations or ())
        package.__package__ = name
        package.__dict__["_finders"] = finders
        sys.modules[name] = package
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, package)
