import subprocess
import sys
import textwrap

import pytest

import serve_app


def _run(code):
    """Run code in a fresh interpreter: what is imported here was imported by other tests already."""
    root = serve_app.__path__[0] + "/.."
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_pyannote_comes_without_what_it_does_not_use():
    heavy, silent, stand_ins = _run(
        """
        import os, sys
        import serve_app.models.diarization
        print(sum(name in sys.modules for name in ("transformers", "torchvision", "sympy", "librosa", "pandas")))
        print(os.environ["PYANNOTE_METRICS_ENABLED"])
        print(sum(name in sys.modules for name in ("torchmetrics", "torch._dynamo")))
        """
    )
    assert (heavy, silent, stand_ins) == ("0", "0", "0")


@pytest.mark.slow  # torch.compile
def test_what_was_deferred_works_afterwards():
    reported, accuracy, unwrapped, compiled, rewrapped = _run(
        """
        import serve_app.models.diarization
        from pyannote.core import Annotation, Segment
        from pyannote.metrics.diarization import DiarizationErrorRate
        rate, turns = DiarizationErrorRate(), Annotation(uri="one")
        turns[Segment(0, 1)] = "A"
        rate(turns, turns)
        import pandas
        print(isinstance(rate.report(), pandas.DataFrame))
        import torch, torchmetrics
        from lightning.fabric.wrappers import _unwrap_compiled
        print(issubclass(torchmetrics.Accuracy, torchmetrics.Metric))
        layer = torch.nn.Linear(2, 2)
        print(_unwrap_compiled(layer)[0] is layer)
        compiled = torch.compile(layer, backend="eager")
        print(tuple(compiled(torch.ones(1, 2)).shape) == (1, 2))
        print(_unwrap_compiled(compiled)[0] is layer)
        """
    )
    assert (accuracy, unwrapped, compiled, rewrapped) == ("True",) * 4
    assert reported == "True"
