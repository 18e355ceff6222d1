"""Hashes of large files, computed once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from serve_app.models import file_hashes
from serve_app.models.file_hashes import combined_sha256, sha256_of


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the name of every file that is read to be hashed."""
    names: list[str] = []
    real = hashlib.file_digest

    def noted(file, digest):  # type: ignore[no-untyped-def]
        names.append(Path(file.name).name)
        return real(file, digest)

    monkeypatch.setattr(file_hashes.hashlib, "file_digest", noted)
    return names


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_an_unchanged_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to(file)
    assert sha256_of(file, cache) == sha256_of(file, cache) == sha256_of(tmp_path / "link", cache)
    assert reads == ["weights"]


def test_a_change_of_the_same_size_is_seen_even_with_its_time_set_back(tmp_path: Path, reads: list[str]) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"x" * 1000)
    status = file.stat()
    first = sha256_of(file, cache)
    file.write_bytes(b"y" * 1000)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sha256_of(file, cache) != first
    assert len(reads) == 2


def test_a_damaged_note_is_made_again(tmp_path: Path, reads: list[str]) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"x")
    first = sha256_of(file, cache)
    (note,) = (cache / "hashes").iterdir()
    for damage in ("", "[]", json.dumps({"state": 1})):
        note.write_text(damage)
        assert sha256_of(file, cache) == first
    assert len(reads) == 4


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "weights").write_bytes(b"x")
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert sha256_of(tmp_path / "weights", tmp_path / "cache") == sha256_of(tmp_path / "weights")
    assert len(reads) == 2


def test_a_combined_hash_depends_on_names_and_contents_not_on_order_or_folder(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_bytes(b"1")
        (tmp_path / folder / "b").write_bytes(b"2")
    one = combined_sha256([tmp_path / "one" / "a", tmp_path / "one" / "b"])
    assert combined_sha256([tmp_path / "two" / "b", tmp_path / "two" / "a"]) == one
    (tmp_path / "two" / "a").write_bytes(b"2")
    (tmp_path / "two" / "b").write_bytes(b"1")
    assert combined_sha256([tmp_path / "two" / "a", tmp_path / "two" / "b"]) != one


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "nothing", tmp_path / "cache")
