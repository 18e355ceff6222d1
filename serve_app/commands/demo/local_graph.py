"""`LocalGraph`: the graph as a child process, on free ports and in its own folders."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from serve_app.launch.ports import free_ports
from serve_app.settings import Settings

_STOP_S = 40.0


class LocalGraph:
    """Runs `serve-app run CONFIG`, and stops it with all its processes.

    Args:
        config: a Serve config file.
        folder: short path; keeps state, Ray's session and the log.
        environment: added to this process's.
        options: further options of `serve-app run`.
    """

    def __init__(
        self, config: Path, folder: Path, environment: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        self._config = config
        self._folder = folder
        self._options = options
        [self.port] = free_ports(1)
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / "serve.log"
        self.ray_dir = folder / "ray"
        self.environment = {
            **os.environ,
            "SERVE_APP_STATE_DIR": str(folder / "state"),
            # models that this user has already need not be fetched and converted again
            "SERVE_APP_MODELS_DIR": str(Settings.from_environment().models_dir),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the driver; all of Ray's processes are its descendants."""
        if self._process is None:
            raise RuntimeError("the graph was not started")
        return self._process.pid

    def start(self) -> None:
        """Start the processes; `wait_until_ready` waits until they serve."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "serve_app", "run", str(self._config)]
        command += ["--port", str(self.port), "--ray-dir", str(self.ray_dir), *self._options]
        with self.log_path.open("ab") as log:
            # a session of its own: an interrupt in the terminal is ours to pass on, in our order
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and arguments)
                command, stdout=log, stderr=subprocess.STDOUT, env=self.environment, start_new_session=True
            )

    def wait_until_ready(self, timeout_s: float) -> float:
        """Return the seconds until `/health/ready` answered 200; RuntimeError with the log's end otherwise."""
        started = time.monotonic()
        last_answer = "nothing answered yet"
        while time.monotonic() - started < timeout_s:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"the graph stopped while starting:\n{self.log_tail()}")
            try:
                answer = httpx.get(f"{self.base_url}/health/ready", timeout=5.0, trust_env=False)
                if answer.status_code == 200:
                    return time.monotonic() - started
                last_answer = answer.text
            except httpx.HTTPError as error:
                last_answer = repr(error)
            time.sleep(0.25)
        raise RuntimeError(f"the graph was not ready within {timeout_s:.0f} s ({last_answer}):\n{self.log_tail()}")

    def stop(self) -> None:
        """Stop the graph, gently at first; nothing that it started is left."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """End every process of the graph at once, as a power cut would."""
        if self._process is None:
            return
        # Ray's daemons keep the driver's session: the session id finds them all, also once their parent is gone
        for pid in session_members(self._process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    def log_tail(self, num_lines: int = 40) -> str:
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-num_lines:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def session_members(session_id: int) -> list[int]:
    """Return the ids of all processes of a session (Linux)."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(fields[3]) == session_id:
                members.append(int(entry.name))
    return members
