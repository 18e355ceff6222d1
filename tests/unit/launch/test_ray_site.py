"""Serve is told that there is no pandas; nobody else is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import serve_app.launch

SITE = Path(serve_app.launch.__file__).parent / "ray_site"
PROGRAM = """
import sys
import ray.serve
from ray.serve._private import utils
assert utils.pd is None, "Serve has pandas"
assert "pandas" not in sys.modules
import pandas
print(pandas.DataFrame({"a": [1]}).shape)
"""


def test_serve_goes_without_pandas_and_everybody_else_has_it() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SITE)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 1)"
