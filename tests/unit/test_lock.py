"""requirements.lock: every file of a package is named by its hash, and no host is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[\w,-]+\])?==(?P<version>\S+)", re.MULTILINE)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-uv.lock"])
def test_each_entry_has_hashes_and_no_host_is_named(name: str) -> None:
    lock = (PROJECT / name).read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"^(?=\S)(?!#)", lock, flags=re.MULTILINE) if entry.strip()]
    assert entries
    for entry in entries:
        assert ENTRY.match(entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
    assert "://" not in lock
    assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host", lock)


def test_versions_that_carried_malware_are_kept_out() -> None:
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    locked = {entry["name"]: entry["version"] for entry in ENTRY.finditer(_lock())}
    assert "lightning!=2.6.2,!=2.6.3" in project
    assert locked["lightning"] not in ("2.6.2", "2.6.3")


def test_setup_takes_nothing_without_a_hash() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in makefile.splitlines() if " pip install " in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --editable ." in line for line in installs)


def test_both_pythons_are_named_everywhere_alike() -> None:
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11,<3.13"' in project
    assert "[(3, 11), (3, 12)]" in makefile
    assert "--python-version 3.11 " in makefile  # what the lock is resolved for
    assert "--dry-run --require-hashes --python-version 3.12 " in makefile  # and checked with


def _lock() -> str:
    return (PROJECT / "requirements.lock").read_text(encoding="utf-8")
