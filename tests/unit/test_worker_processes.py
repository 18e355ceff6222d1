"""Worker processes are spawned: a forked child may wait forever for a lock that another thread of its parent held."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("serve_app", "training", "loadtests", "tests")

# All else in `multiprocessing` starts processes, or locks shared with them, by the default way, which forks on Linux.
HARMLESS = {"context", "get_context", "resource_tracker", "shared_memory", "sharedctypes"}
# It is started by `exec` and has one thread: its forks share its memory, and no lock is held.
FORKS_ALONE = ROOT / "serve_app" / "media" / "cage_worker.py"
FORKS = {"os": {"fork", "forkpty"}, "pty": {"fork", "spawn"}}
FORK_BY_DEFAULT = ("joblib", "multiprocess", "pathos", "torch.multiprocessing")


def test_worker_processes_are_spawned() -> None:
    files = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 400
    found = [
        f"{path.relative_to(ROOT)}:{problem}"
        for path in files
        if path != FORKS_ALONE
        for problem in problems(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import multiprocessing\nmultiprocessing.Pool(2)",
        "import multiprocessing as mp\nmp.Process(target=print)",
        "import multiprocessing\nmultiprocessing.set_start_method('spawn')",
        "from multiprocessing import Pool",
        "from multiprocessing import Value",
        "from multiprocessing.pool import Pool",
        "from multiprocessing import get_context\nget_context().Pool(2)",
        "from multiprocessing import get_context\nget_context('fork').Pool(2)",
        "import multiprocessing\nmultiprocessing.get_context(method='fork')",
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor(2)",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor(2)",
        "from concurrent.futures import ProcessPoolExecutor as Pool\nPool(2)",
        "from concurrent.futures import ProcessPoolExecutor as Pool\nPool(2, mp_context=None)",
        "from torch.utils.data import DataLoader\nDataLoader([], num_workers=2)",
        "import torch\ntorch.utils.data.DataLoader([], num_workers=n)",
        "from torch.utils.data import DataLoader\nDataLoader([], num_workers=2, multiprocessing_context='fork')",
        "import os\nos.fork()",
        "from os import fork",
        "import pty\npty.fork()",
        "import torch.multiprocessing",
        "from torch import multiprocessing",
        "from joblib import Parallel",
    ],
)
def test_what_would_fork_is_found(source: str) -> None:
    assert len(list(problems(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from multiprocessing import get_context\nget_context('spawn').Pool(2)",
        "import multiprocessing\nmultiprocessing.get_context('spawn').Process(target=print)",
        "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor\nThreadPoolExecutor(2)",
        "from concurrent.futures import ProcessPoolExecutor as P\nfrom multiprocessing import get_context as g\n"
        "P(2, mp_context=g('spawn'))",
        "from torch.utils.data import DataLoader\nDataLoader([], num_workers=0)",
        "from torch.utils.data import DataLoader\nDataLoader([], num_workers=n, multiprocessing_context='spawn')",
        "from training.drums.batches import Pool\nPool('folder')",
    ],
)
def test_what_spawns_is_allowed(source: str) -> None:
    assert list(problems(source)) == []


def problems(source: str) -> Iterator[str]:
    """Yield LINE: what forks, for each place of a module that would."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                full_names, fixed = [alias.name for alias in aliases], {}
            case ast.ImportFrom(module=str(module), names=aliases):
                full_names, fixed = [f"{module}.{alias.name}" for alias in aliases], {}
            case ast.Attribute():
                full_names, fixed = [_full_name(node, names)], {}
            case ast.Call(func=function, args=positional, keywords=keywords):
                full_names = [f"{_full_name(function, names)}()"]
                fixed = {str(keyword.arg): keyword.value for keyword in keywords} | (
                    {"method": positional[0]} if positional else {}
                )
            case _:
                continue
        for full_name in full_names:
            if _forks(full_name, fixed):
                yield f"{node.lineno}: {full_name}"


def _forks(full_name: str, arguments: dict[str, ast.expr]) -> bool:
    """Say whether a name, or a call (it ends in parentheses), starts processes by forking."""
    module, _, name = full_name.rpartition(".")
    match name:
        case "get_context()":
            return not _spawns(arguments.get("method"))
        case "ProcessPoolExecutor()":
            return not _spawns(arguments.get("mp_context"))
        case "DataLoader()":
            workers = arguments.get("num_workers", ast.Constant(0))
            alone = isinstance(workers, ast.Constant) and workers.value == 0
            return not alone and not _spawns(arguments.get("multiprocessing_context"))
    if name.endswith("()"):
        return False  # the name itself was judged where it stands
    if full_name.startswith("multiprocessing."):
        return full_name.split(".")[1] not in HARMLESS
    return name in FORKS.get(module, ()) or any(f"{full_name}.".startswith(f"{each}.") for each in FORK_BY_DEFAULT)


def _spawns(argument: ast.expr | None) -> bool:
    """Say whether an argument is "spawn", or a context made with it."""
    if isinstance(argument, ast.Call):
        return len(argument.args) == 1 and _spawns(argument.args[0])
    return isinstance(argument, ast.Constant) and argument.value == "spawn"


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each imported name and the full name of what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _full_name(node: ast.expr, names: dict[str, str]) -> str:
    """Return module.name of what an expression of names and dots stands for, as far as imports tell."""
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""
