"""LitServe and BentoML in a virtual environment of their own, made on first use; never in the project's lock.

What they need comes in their own versions; what they leave open (torch, torchvision, Pillow) is the project's, so that
all servers run the same PyTorch.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGES = ("litserve==0.2.19", "bentoml==1.4.40")
_FOLDER = Path(tempfile.gettempdir()) / "serve_app-peers"


class NotInstalled(Exception):
    """Raised when the environment cannot be made; the message ends as the installer's did."""


def python_of_peers(folder: Path = _FOLDER) -> Path:
    """Return the environment's interpreter; make it if need be.

    Raises:
        NotInstalled: the registry is out of reach, or the packages don't fit.
    """
    python, done = folder / "bin" / "python", folder / "serve_app-packages.txt"
    if done.exists() and done.read_text(encoding="utf-8") == _wanted():
        return python
    uv = Path(sys.prefix) / "bin" / "uv"
    try:
        if uv.exists():
            _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder)
            _run(uv, "pip", "install", "--quiet", "--python", python, *PACKAGES)
        else:
            _run(sys.executable, "-m", "venv", "--clear", folder)
            _run(python, "-m", "pip", "install", "--quiet", *PACKAGES)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise NotInstalled(said.splitlines()[-1] if said else repr(error)) from error
    [packages] = folder.glob("lib/python*/site-packages")
    # last on the path: a package that is in both comes from the environment itself
    (packages / "zz-serve_app.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    done.write_text(_wanted(), encoding="utf-8")
    return python


def _wanted() -> str:
    return "\n".join([*PACKAGES, sysconfig.get_path("purelib"), sys.version])


def _run(*command: str | Path) -> None:
    subprocess.run([str(each) for each in command], check=True, capture_output=True, text=True, timeout=600)
