"""`unused_packages_deferred`: imports pyannote without packages that it never uses, half of its import time.

Measured with pyannote.audio 4.0, lightning 2.6, torchmetrics 1.9, torch 2.8 and pandas 3.1: 14.0 s of CPU and 893 MB
without this module, 10.5 s and 833 MB without torchmetrics' package file, 7.2 s and 722 MB without torch._dynamo's too,
6.5 s and 694 MB without pandas too. Once pyannote imports none of them at its start, this module can go.

`lightning` and `pyannote.audio` want `Metric` and `MetricCollection` of torchmetrics (to subclass, and to tell types)
and `OptimizedModule` and `disable` of torch._dynamo (for isinstance, and to mark a method of lightning's trainer). The
package files of the two, however, import every metric there is (with transformers, torchvision and librosa) and all of
torch.compile (with sympy). pandas is imported for reports that nobody asks for.

So while pyannote is imported, all three stand in `sys.modules` with their own files not run. Their submodules import as
always, the metric classes come from where they are defined, and what stands for a name looks for the real thing
whenever it is used. Any other name that is asked for runs the file after all. Afterwards the stand-ins are taken away
again: a later import of any of them is an ordinary one.
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
    """A package whose own file runs when a name is asked for that is not known without it."""

    _finders: dict[str, Callable[[], Any]]

    def __getattr__(self, name: str) -> Any:
        # The import system looks for dunders (`__all__`, `__wrapped__`) that may well not exist: no reason to run.
        if name.startswith("__") and name not in self._finders:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in self._finders:
            return self._finders[name]()
        self.__class__ = ModuleType  # type: ignore[assignment]  # first: the file asks its package for names
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _real_dynamo() -> Any:
    """Return torch._dynamo if torch.compile has come into use in this process, else None."""
    package = sys.modules.get("torch._dynamo")
    return None if isinstance(package, _LazyPackage) else package


class _OptimizedModuleType(type):
    """Make isinstance exact without torch._dynamo: where that was never run, nothing can be one of its modules."""

    def __instancecheck__(cls, instance: object) -> bool:
        dynamo = _real_dynamo()
        return dynamo is not None and isinstance(instance, dynamo.OptimizedModule)


class _OptimizedModule(metaclass=_OptimizedModuleType):
    """Stands for torch._dynamo.OptimizedModule in isinstance."""


def _disable(function: Callable[..., Any], *options: Any, **named_options: Any) -> Callable[..., Any]:
    """Do as torch._dynamo.disable does once torch.compile is in use; until then there is nothing to disable."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        dynamo = _real_dynamo()
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


class _DataFrameType(type):
    """Make isinstance exact without pandas: where that was never run, nothing is a table of its."""

    def __instancecheck__(cls, instance: object) -> bool:
        pandas = sys.modules.get("pandas")
        return not (pandas is None or isinstance(pandas, _LazyPackage)) and isinstance(instance, pandas.DataFrame)


class _DataFrame(metaclass=_DataFrameType):
    """Stands for pandas.DataFrame in annotations; called, it makes a real one."""

    def __new__(cls, *args: Any, **named_args: Any) -> Any:
        return importlib.import_module("pandas").DataFrame(*args, **named_args)


_FINDERS: dict[str, dict[str, Callable[[], Any]]] = {
    "torchmetrics": {
        "Metric": _metric,
        "MetricCollection": _metric_collection,
        "__version__": lambda: importlib.metadata.version("torchmetrics"),
        "_logger": lambda: logging.getLogger("torchmetrics"),
    },
    "torch._dynamo": {"OptimizedModule": lambda: _OptimizedModule, "disable": lambda: _disable},
    "pandas": {"DataFrame": lambda: _DataFrame},
}


@contextmanager
def unused_packages_deferred() -> Iterator[None]:
    """Put the packages off while pyannote is imported inside; one that is imported already is left as it is."""
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
