"""No other place of the project unpickles a file; a small run of the fuzzer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtests.fuzz_weights import EXTRA_BYTES, fuzz

PACKAGE = Path(__file__).parents[4] / "serve_app"
UNPICKLES = re.compile(
    r"(?<!safetensors\.)\btorch\.load\("
    r"|\bpickle\.loads?\(|\bUnpickler\b|\bjoblib\b|allow_pickle=True|load_state_dict_from_url"
    r"|\bwhisper\.load_model\(|\btorch\.hub\.load\(|\btorch\.jit\.load\("
    r"|from torch import load\b|\bjsonpickle\b|\bdill\b"
)
OWN_MESSAGES = {"media/cage_worker.py"}  # the serving process writes them
# who may have a library unpickle a file, and what must be in the same module
CHECKED = {"models/pretrained.py": "check_folder(folder)", "models/speech/alignment/model.py": "read_checkpoint(path)"}
FROM_PRETRAINED = re.compile(r"\b\w*(?:model_class|Model\w*|Pipeline|Generation)\.from_pretrained\(")


def test_no_module_unpickles() -> None:
    sources = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert {name for name, source in sources.items() if UNPICKLES.search(source)} <= OWN_MESSAGES


def test_where_a_library_unpickles_the_file_is_checked_first() -> None:
    for name, check in CHECKED.items():
        assert check in (PACKAGE / name).read_text(encoding="utf-8")
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if FROM_PRETRAINED.search(source):
            has_safetensors_only = "use_safetensors=True" in source or '"use_safetensors": True' in source
            is_checked = str(path.relative_to(PACKAGE)) in CHECKED or "require_allowed_pipeline" in source
            assert has_safetensors_only or is_checked, path


@pytest.mark.slow
def test_damaged_files_are_refused_and_nothing_else() -> None:
    rows = fuzz(cases=80, seed=7, light=True)
    assert len(rows) == 80
    assert [row for row in rows if row["answer"] not in ("read", "refused")] == []
    assert sum(row["answer"] == "refused" for row in rows) > 40
    assert max(row["peak"] for row in rows) < 2 * EXTRA_BYTES
