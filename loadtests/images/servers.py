"""The servers side by side: each starts as a process tree of its own, says when it answers, leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self

from loadtests.images.graph import write_config
from loadtests.images.load import ROOT, ClosedLoop, Plan
from loadtests.images.peers.settings import Settings
from loadtests.images.peers_venv import python_of_peers
from serve_app.commands.demo.local_graph import LocalGraph, session_members
from serve_app.launch.ports import free_ports

_STOP_S = 20.0
NAMES = {
    "a": "(a) FastAPI + uvicorn",
    "b": "(b) LitServe",
    "c": "(c) BentoML",
    "d": "(d) serve_app",
}


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One server and its settings, as the command line has them: `b` or `b:workers=2,wait_ms=10`.

    Attributes:
        letter: which, see `NAMES`.
        options: of `Settings`, or for (d) of `write_config`.
    """

    letter: str
    options: tuple[tuple[str, float | str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it; ValueError where there is no such server."""
        letter, _, rest = text.partition(":")
        if letter not in NAMES:
            raise ValueError(f"{letter!r} is none of {', '.join(NAMES)}")
        pairs = (each.partition("=") for each in rest.split(",") if each)
        return cls(letter, tuple((name, _number(value)) for name, _, value in pairs))

    @property
    def name(self) -> str:
        """What the tables call it."""
        return ", ".join([NAMES[self.letter], *(f"{name} {value}" for name, value in self.options)])

    @property
    def key(self) -> str:
        """What tells servers apart; begins with the letter."""
        return ",".join([self.letter, *(f"{name}={value}" for name, value in self.options)])


# one process a core: with MobileNetV3-Small faster than one worker at 8 and 32 connections, the same at one (quiet
# machine, 2026-11-27; docs/models/images.md). The command line may give others
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "b": {"workers": 2, "threads": 1, "batch": 8, "wait_ms": 5.0},
    "c": {"workers": 2, "threads": 1, "batch": 8},
}


class Server(Protocol):
    """A started server."""

    port: int

    @property
    def pid(self) -> int:
        """Root of its process tree."""
        ...

    def stop(self) -> None:
        """End it and everything that it started."""
        ...

    def log_tail(self) -> str:
        """Return the end of what it said."""
        ...


@dataclass
class PeerServer:
    """A command that serves, in a session of its own."""

    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    log_path: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.command),
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Root of its process tree."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End it and everything that it started."""
        if self._process is None:
            return
        members = session_members(self.pid)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        for pid in session_members(self.pid) if self._process.poll() is not None else members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def log_tail(self) -> str:
        """Return the end of what it said."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-30:])


def start(spec: ServerSpec, settings: Settings, folder: Path) -> Server:
    """Start a server; `wait_until_it_answers` tells when it serves.

    Args:
        spec: which one.
        settings: weights, route and so on; port, workers and batches are the spec's.
        folder: short path, for logs and state.

    Raises:
        NotInstalled: the peer's package is not to be had.
    """
    if spec.letter == "d":
        config = write_config(folder / "config.yaml", settings.task, settings.weights, **dict(spec.options))
        graph = LocalGraph(config, folder / "g")
        graph.start()
        return graph
    [port] = free_ports(1)
    options = {**DEFAULTS.get(spec.letter, {}), **dict(spec.options)}
    settings = replace(settings, port=port, **options)
    command = [sys.executable if spec.letter == "a" else str(python_of_peers())]
    if spec.letter == "c":
        command += ["-m", "bentoml", "serve", "loadtests.images.peers.bentoml_app:Images"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(ROOT)]
    else:
        command += ["-m", f"loadtests.images.peers.{'fastapi' if spec.letter == 'a' else 'litserve'}_app"]
    environment = {
        **settings.to_environment(),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / "bentoml"),
    }
    server = PeerServer(command, environment, port, folder / f"{spec.letter}.log")
    server.start()
    return server


def wait_until_it_answers(server: Server, path: str, image: Path, timeout_s: float = 300.0) -> float:
    """Return after how many seconds an upload was answered 200; RuntimeError with the log's end otherwise."""
    started_s = time.monotonic()
    said = ""
    while time.monotonic() - started_s < timeout_s:
        if not Path(f"/proc/{server.pid}/stat").exists():
            break
        plan = Plan(server.port, path, (str(image),), 1, num_requests=1, timeout_s=timeout_s)
        [answer] = ClosedLoop(plan, lambda event: None).run().answers
        if answer.status == 200:
            return time.monotonic() - started_s
        said = f"{answer.status} {answer.body[:300]}"
        if answer.status in (400, 413, 415, 422):  # it is up, and will not say anything else
            break
        time.sleep(0.25)
    raise RuntimeError(f"no answer within {timeout_s:.0f} s ({said}):\n{server.log_tail()}")


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
