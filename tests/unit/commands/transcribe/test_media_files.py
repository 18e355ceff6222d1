"""Which files a batch takes, and how it knows that one changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app.commands.transcribe.media_files import (
    Fingerprint,
    compare,
    find_media,
    readable_name,
    shown,
    take_fingerprint,
)

NAMES = ["b.wav", "a.MP3", "노래.m4a", "notes.txt", ".hidden.wav", "sub/c.ogg", "sub/deep/d.mp4", ".git/e.wav", "noise"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(folder: Path, **options: object) -> list[str]:
    given = {"recursive": False, "pattern": None, "leave_out": frozenset(), **options}
    return [file.name for file in find_media(folder, **given)]  # type: ignore[arg-type]


class TestFindMedia:
    def test_takes_media_by_suffix_sorted_and_not_what_is_hidden(self, folder: Path) -> None:
        assert names(folder) == ["a.MP3", "b.wav", "노래.m4a"]

    def test_recursive(self, folder: Path) -> None:
        assert names(folder, recursive=True) == ["a.MP3", "b.wav", "sub/c.ogg", "sub/deep/d.mp4", "노래.m4a"]

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("*", ["a.MP3", "b.wav", "noise", "notes.txt", "sub/c.ogg", "sub/deep/d.mp4", "노래.m4a"]),
            ("*.ogg", ["sub/c.ogg"]),
            ("sub/*", ["sub/c.ogg"]),
            ("n*", ["noise", "notes.txt"]),
        ],
    )
    def test_pattern_takes_the_place_of_the_suffixes(self, folder: Path, pattern: str, found: list[str]) -> None:
        assert names(folder, recursive=True, pattern=pattern) == found

    def test_own_files_are_left_out(self, folder: Path) -> None:
        assert names(folder, pattern="n*", leave_out=frozenset({folder / "noise"})) == ["notes.txt"]

    def test_links(self, folder: Path) -> None:
        """A link to a file is a file; a link to a folder could lead round in circles, one to nowhere is none."""
        (folder / "link.wav").symlink_to(folder / "sub" / "c.ogg")
        (folder / "nowhere.wav").symlink_to(folder / "gone.wav")
        (folder / "round").symlink_to(folder)
        os.mkfifo(folder / "pipe.wav")
        found = names(folder, recursive=True)
        assert "link.wav" in found
        assert not {"nowhere.wav", "pipe.wav"} & set(found)
        assert not [name for name in found if name.startswith("round")]

    def test_names_of_any_bytes_and_controls(self, tmp_path: Path) -> None:
        for raw in (b"caf\xe9.wav", b"\x1b[2J\nx.wav", b"caf\xc3\xa9.wav"):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).write_bytes(b"x")
        found = find_media(tmp_path, recursive=False, pattern=None, leave_out=frozenset())
        assert {os.fsencode(file.name) for file in found} == {b"caf\xe9.wav", b"\x1b[2J\nx.wav", b"caf\xc3\xa9.wav"}
        assert all(file.path.read_bytes() == b"x" for file in found)

    def test_folder_that_can_not_be_read_is_no_empty_one(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            names(tmp_path / "gone", recursive=True)


class TestFingerprint:
    def test_unchanged_is_known_without_reading(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"abc")
        status = path.stat()
        known = Fingerprint(3, status.st_mtime_ns, "whatever it is")
        assert compare(path, known) == known

    def test_touched_is_the_same_under_a_new_time(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"abc")
        known = take_fingerprint(path)
        os.utime(path, ns=(1, 1))
        now = compare(path, known)
        assert now == Fingerprint(3, 1, known.sha256)
        assert now != known

    @pytest.mark.parametrize("content", [b"abd", b"abcd", b""])
    def test_changed(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"abc")
        known = take_fingerprint(path)
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        assert compare(path, known) is None

    def test_hash_is_of_the_content(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"abc")
        print_ = take_fingerprint(path)
        assert print_.num_bytes == 3
        assert print_.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


class TestText:
    def test_two_names_stay_two(self) -> None:
        raw = [os.fsdecode(b"caf\xe9.wav"), os.fsdecode(b"caf\xe8.wav"), "café.wav"]
        readable = [readable_name(name) for name in raw]
        assert readable == ["caf\\xe9.wav", "caf\\xe8.wav", "café.wav"]

    @pytest.mark.parametrize(
        ("text", "safe"),
        [
            ("\x1b[2Jclear", "\ufffd[2Jclear"),
            ("a\nb\tc", "a\ufffdb\ufffdc"),
            ("safe\u202egpj.exe", "safe\ufffdgpj.exe"),
            ("\x9b31m", "\ufffd31m"),
            ("노래 été.wav", "노래 été.wav"),
            (os.fsdecode(b"\xff"), "\ufffd"),
        ],
    )
    def test_terminal_is_safe(self, text: str, safe: str) -> None:
        assert shown(text) == safe
