"""Who may import whom (docs/architecture.md), walked over the source; and what a fresh process really loads."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "serve_app"

# What each layer may import of this project, itself aside. A layer that is not named here may not exist.
OWN = {
    "": set(),
    "errors": set(),
    "results": set(),
    "sentences": set(),  # every layer may import it
    "languages": {"results"},
    "extras": {"errors"},
    "messages": {"errors", "redaction"},
    "threads": {"errors"},
    "json_text": set(),
    "redaction": set(),
    "registered_names": set(),
    "analysis": {"errors", "results"},
    "subtitles": {"errors", "results", "analysis"},
    "media": {"registered_names", "threads", "errors", "results"},
    "models": {"languages", "errors", "results", "messages", "analysis", "media", "redaction"},
    "jobs": {"threads", "registered_names", "json_text", "errors", "results", "messages", "analysis"},
    "services": {"errors", "results", "analysis", "jobs"},
    "api": {
        "languages",
        "threads",
        "json_text",
        "",
        "errors",
        "results",
        "messages",
        "analysis",
        "subtitles",
        "jobs",
        "services",
    },
    "settings": {"errors", "messages", "api", "jobs", "media"},
    "deployments": {"extras", "threads", "errors", "results", "analysis", "media", "models", "services", "redaction"},
    "flows": {
        "threads",
        "errors",
        "results",
        "messages",
        "analysis",
        "media",
        "models",
        "jobs",
        "services",
        "settings",
        "deployments",
    },
    "workers": {
        "threads",
        "",
        "errors",
        "results",
        "messages",
        "analysis",
        "media",
        "models",
        "jobs",
        "services",
        "api",
        "settings",
        "flows",
        "deployments",
    },
    "graph_args": {"models", "workers"},
    "graph": {
        "",
        "extras",
        "errors",
        "messages",
        "models",
        "deployments",
        "flows",
        "workers",
        "settings",
        "jobs",
        "graph_args",
    },
    "launch": {"", "extras", "errors", "graph", "graph_args", "settings"},
    "client": {"", "errors"},
    "image_inference": {"errors", "results", "models", "services", "api", "settings"},
    "scoring": {"errors", "results"},
    "demo_media": {"errors"},
    "commands": {
        "",
        "errors",
        "results",
        "messages",
        "analysis",
        "client",
        "media",
        "models",
        "settings",
        "scoring",
        "demo_media",
        "launch",
        "jobs",
    },
    "cli": {"", "extras", "errors", "client", "commands", "launch", "settings"},
    "__main__": {"cli"},
}
RAY, WEB, TENSORS = {"ray"}, {"fastapi", "starlette", "uvicorn"}, {"torch", "torchvision", "torchaudio"}
HEAVY = TENSORS | {"transformers", "pyannote", "whisperx", "librosa", "faster_whisper", "whisper", "pocketsphinx"}

# What each layer must not import of others.
FOREIGN_BANNED = {
    "media": RAY | WEB | TENSORS,
    "models": RAY | WEB,
    "jobs": RAY | WEB | HEAVY,
    "api": RAY | HEAVY,
    "settings": RAY | HEAVY,
    "graph_args": RAY | WEB | HEAVY,
    "graph": HEAVY,
    "client": RAY | WEB | HEAVY,
    "analysis": RAY | WEB | TENSORS | HEAVY,
    "subtitles": RAY | WEB | TENSORS | HEAVY,
    "commands": RAY | WEB | HEAVY,
    "cli": HEAVY,
    "__main__": RAY | WEB | HEAVY,
}
STANDARD_LIBRARY_ONLY = {
    "",
    "languages",
    "registered_names",
    "json_text",
    "errors",
    "extras",
    "results",
    "messages",
    "sentences",
    "threads",
    "services",
    "redaction",
}
MAY_IMPORT_RAY = {"deployments", "flows", "workers", "graph", "launch"}

# These hand the environment on to the processes that they start, and choose nothing by it.
HAND_ON_THE_ENVIRONMENT = {PACKAGE / "launch" / "launch.py", PACKAGE / "commands" / "demo" / "local_graph.py"}


@dataclass(frozen=True)
class Import:
    """One import statement. `local`: inside a function; `for_types`: under TYPE_CHECKING."""

    file: Path
    line: int
    module: str
    local: bool
    for_types: bool

    @property
    def layer(self) -> str:
        return layer_of(self.file)

    def __str__(self) -> str:
        return f"{self.file.relative_to(PROJECT)}:{self.line} imports {self.module}"


def layer_of(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py") if first != "__init__.py" else ""


def imports_of(file: Path) -> Iterator[Import]:
    def walk(node: ast.AST, local: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, local, for_types)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}:{child.lineno}: relative import"
                # `from package import module` and `from module import name` look the same: keep both parts
                for alias in child.names:
                    yield Import(file, child.lineno, f"{child.module}.{alias.name}", local, for_types)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
                yield from walk(child, local or function, for_types or types)

    yield from walk(ast.parse(file.read_text("utf-8")), False, False)


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


ALL_IMPORTS = [found for file in source_files() for found in imports_of(file)]


def test_every_layer_is_known() -> None:
    assert {layer_of(file) for file in source_files()} <= set(OWN)
    assert len(ALL_IMPORTS) > 100  # the walk found the code


def test_layers_import_only_what_is_below_them() -> None:
    wrong = []
    for found in ALL_IMPORTS:
        package, _, rest = found.module.partition(".")
        if package != "serve_app":
            continue
        target = rest.partition(".")[0]
        if not (PACKAGE / target).is_dir() and not (PACKAGE / f"{target}.py").exists():
            target = ""  # a name of the package itself, such as __version__
        if target not in OWN[found.layer] | {found.layer, "sentences"}:
            wrong.append(str(found))
    assert wrong == []


def test_api_and_services_see_only_the_record_of_jobs() -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.layer in ("api", "services")
        and found.module.startswith("serve_app.jobs")
        and not found.module.startswith("serve_app.jobs.record.")
    ]
    assert wrong == []


def test_layers_leave_alone_what_is_not_theirs() -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.module.partition(".")[0] in FOREIGN_BANNED.get(found.layer, set()) and not found.for_types
    ]
    assert wrong == []


def test_the_foundation_uses_the_standard_library_only() -> None:
    # pydantic calls sentences to write them in JSON; it is loaded then
    allowed = sys.stdlib_module_names | {"serve_app"}
    late = {(PACKAGE / "sentences.py", "pydantic_core")}
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.layer in STANDARD_LIBRARY_ONLY
        and (package := found.module.partition(".")[0]) not in allowed
        and not (found.local and (found.file, package) in late)
    ]
    assert wrong == []


def test_only_deployments_and_graph_know_ray() -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.module.partition(".")[0] == "ray" and found.layer not in MAY_IMPORT_RAY
    ]
    assert wrong == []


def test_deployments_import_model_code_only_locally() -> None:
    """Serve imports a deployment's module in its controller and in the driver, which must stay small."""
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.layer in ("deployments", "flows", "workers")
        and found.module.partition(".")[0] in HEAVY
        and not (found.local or found.for_types)
    ]
    assert wrong == []


def environment_reads(file: Path) -> list[str]:
    """Return where a module reads the environment; setting a library's switch before its import is no reading."""
    tree = ast.parse(file.read_text("utf-8"))
    written = {
        id(node.value)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del))
        or (isinstance(node, ast.Attribute) and node.attr in ("setdefault", "pop", "update"))
    }
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("getenv", "environ", "environb")
            and id(node) not in written
        )
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and "env" in ast.dump(node))
    ]
    return [f"{file.relative_to(PROJECT)}:{line}" for line in lines]


def test_only_settings_reads_the_environment() -> None:
    reads = {file: environment_reads(file) for file in source_files()}
    assert reads[PACKAGE / "settings.py"] != []  # the walk sees a read where there is one
    # the client is a library of other programs: it reads the key that it sends;
    # speed: what makes other libraries slower is a part of what its measurements are kept by
    own = {PACKAGE / "settings.py", PACKAGE / "client" / "service.py", PACKAGE / "models" / "images" / "speed.py"}
    allowed = own | HAND_ON_THE_ENVIRONMENT
    assert [where for file, found in reads.items() if file not in allowed for where in found] == []


def loaded_by(module: str) -> set[str]:
    """Return the top-level packages that importing a module in a fresh process loads."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return {name.partition(".")[0] for name in json.loads(ran.stdout.splitlines()[-1])}


def test_graph_loads_no_model_library() -> None:
    if importlib.util.find_spec("serve_app.graph") is None:
        pytest.skip("serve_app.graph does not exist yet")
    loaded = loaded_by("serve_app.graph")
    assert "ray" in loaded
    assert loaded & {"torch", "transformers", "pyannote", "whisperx", "librosa"} == set()


@pytest.mark.parametrize("module", ["serve_app.api.app", "serve_app.settings"])
def test_http_layer_loads_neither_ray_nor_models(module: str) -> None:
    loaded = loaded_by(module)
    assert "pydantic" in loaded
    assert loaded & (RAY | HEAVY | {"sqlalchemy", "numpy"}) == set()


def test_client_loads_no_server() -> None:
    loaded = loaded_by("serve_app.client")
    assert "httpx" in loaded
    assert loaded & (RAY | WEB | HEAVY | {"sqlalchemy", "numpy", "pydantic"}) == set()
