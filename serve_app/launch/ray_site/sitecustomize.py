"""Keep files private, and pandas out of Ray Serve's processes. Python runs this at the start of each of them.

`launch` puts it on PYTHONPATH. Files that any of them makes are for their owner alone (umask 077).

`ray.serve._private.utils` tries `import pandas`, to be able to answer with DataFrames, and does without where it is not
installed. Here it is installed (pyannote and whisperx want it), so each of a dozen processes would pay for it at start,
in seconds and in memory (docs/decisions/0005-no-pandas-in-serve.md). Only that one import fails; every other importer
gets pandas.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from types import FrameType

_OPTIONAL_THERE = "ray.serve._private.utils"


class _NoPandasForServe(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "pandas":
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_globals.get("__name__", "").startswith("importlib."):
                frame = frame.f_back
            if frame is not None and frame.f_globals.get("__name__") == _OPTIONAL_THERE:
                raise ImportError("pandas is kept out of Serve's processes (serve_app)")
        return


os.umask(0o077)
sys.meta_path.insert(0, _NoPandasForServe())
