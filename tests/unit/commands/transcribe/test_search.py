"""Which files a batch takes: of folders, of patterns, by name, and by what is in them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve_app.commands.transcribe.search import Found, find_files, why_passed_over
from serve_app.errors import InvalidRequest
from tests.unit.media.media_files import id3_tag, tone, wav, write_media, write_video_only

NAMES = ["b.wav", "a.MP3", "노래.m4a", "notes.txt", ".hidden.wav", "sub/c.ogg", "sub/deep/d.mp4", ".git/e.wav", "noise"]
TOP = ["a.MP3", "b.wav", "noise", "notes.txt", "노래.m4a"]
ALL = ["a.MP3", "b.wav", "noise", "notes.txt", "sub/c.ogg", "sub/deep/d.mp4", "노래.m4a"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def search(*sources: Path, recursive: bool = False, pattern: str | None = None, own: Path | None = None) -> Found:
    own_files = frozenset({own} if own else ())
    return find_files([str(source) for source in sources], recursive=recursive, pattern=pattern, leave_out=own_files)


class TestFindFiles:
    def test_all_but_hidden_ones_sorted(self, folder: Path) -> None:
        found = search(folder)
        assert (found.folder, found.names) == (folder, TOP)
        assert (found.num_hidden, found.num_unsearched) == (2, 1)
        assert search(folder, recursive=True).names == ALL

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("*", ALL),
            ("*.ogg", ["sub/c.ogg"]),
            ("sub/*", ["sub/c.ogg"]),
            ("n*", ["noise", "notes.txt"]),
            ("**/*.ogg", ["sub/c.ogg"]),
            ("**/*", ALL),
            ("**", ALL),
            ("sub/**", ["sub/c.ogg", "sub/deep/d.mp4"]),
            ("**/deep/*", ["sub/deep/d.mp4"]),
            ("**/?.[mow]*", ["b.wav", "sub/c.ogg", "sub/deep/d.mp4"]),
        ],
    )
    def test_patterns(self, folder: Path, pattern: str, names: list[str]) -> None:
        assert search(folder, recursive=True, pattern=pattern).names == names
        if "**" in pattern:
            assert search(folder, pattern=pattern).names == names
            assert search(folder / pattern).names == [
                name.removeprefix("sub/") if pattern == "sub/**" else name for name in names
            ]

    def test_own_files_are_left_out(self, folder: Path) -> None:
        assert search(folder, pattern="n*", own=folder / "noise").names == ["notes.txt"]

    def test_several_sources_and_one_named_twice(self, folder: Path) -> None:
        found = search(folder / "sub", folder / "b.wav", folder / "sub" / "c.ogg", folder / "b.wav", folder / "n*")
        assert (found.folder, found.names) == (folder, ["b.wav", "noise", "notes.txt", "sub/c.ogg"])
        assert found.asked == {"b.wav", "sub/c.ogg"}
        assert not found.is_one

    def test_one_file(self, folder: Path) -> None:
        found = search(folder / ".hidden.wav")  # named, so it is meant
        assert (found.folder, found.names, found.is_one) == (folder, [".hidden.wav"], True)

    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    def test_composed_and_decomposed_names_match(self, tmp_path: Path, form: str) -> None:
        names = [unicodedata.normalize(each, "음성 café.wav") for each in ("NFC", "NFD")]
        for name in names:
            (tmp_path / name).write_bytes(b"x")
        pattern = unicodedata.normalize(form, "음성*é.wav")
        assert sorted(search(tmp_path, pattern=pattern).names) == sorted(names)  # two files stay two files
        assert sorted(search(tmp_path, pattern=f"**/{pattern}").names) == sorted(names)

    def test_one_name_is_found_in_either_form(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        composed, decomposed = (unicodedata.normalize(form, "음성/café.wav") for form in ("NFC", "NFD"))
        (tmp_path / decomposed).parent.mkdir()
        (tmp_path / decomposed).write_bytes(b"x")
        monkeypatch.chdir(tmp_path)
        for source in (tmp_path / composed, Path(composed), tmp_path / decomposed):
            found = search(source)
            assert (found.names, found.is_one) == ([Path(decomposed).name], True)
        assert search(Path(composed).parent).names == [Path(decomposed).name]

    def test_a_folder_whose_name_reads_as_a_pattern(self, tmp_path: Path) -> None:
        (tmp_path / "take[1]").mkdir()
        (tmp_path / "take[1]" / "a.wav").write_bytes(b"x")
        assert search(tmp_path / "take[1]" / "*.wav").names == ["a.wav"]

    def test_links(self, folder: Path) -> None:
        """A link to a file is a file; a link to a folder could lead round in circles, one to nowhere is none."""
        (folder / "link.wav").symlink_to(folder / "sub" / "c.ogg")
        (folder / "nowhere.wav").symlink_to(folder / "gone.wav")
        (folder / "itself").symlink_to(folder / "itself")
        (folder / "round").symlink_to(folder)
        os.mkfifo(folder / "pipe.wav")
        found = search(folder, recursive=True)
        assert found.names == sorted([*ALL, "link.wav"])
        assert found.passed_over == {
            "itself": "a link that leads nowhere",
            "nowhere.wav": "a link that leads nowhere",
            "pipe.wav": "not a file with content",
            "round": "a link to a folder, which is not followed",
        }

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        for name in ("gone", "gone/*.wav"):
            with pytest.raises(InvalidRequest, match=f"{tmp_path}/gone.* is not a folder"):
                search(tmp_path / name)


def make_recordings(folder: Path) -> list[Path]:
    """Write recordings of several formats under names without a suffix, or with a wrong one."""
    kinds = [
        ("a.wav", "pcm_s16le"),
        ("a.flac", "flac"),
        ("a.m4a", "aac"),
        ("a.ogg", "libopus"),
        ("a.mp3", "libmp3lame"),
    ]
    made = []
    for number, (name, codec) in enumerate(kinds):
        path = folder / f"talk-{number}{'.txt' if number % 2 else ''}"
        made.append(write_media(folder / name, tone(1.0, 48_000)[None], 48_000, codec=codec).rename(path))
    tagged = folder / "tagged.dat"
    tagged.write_bytes(id3_tag() + wav(tone(1.0), size=0))
    film = write_media(folder / "f.mp4", tone(1.0, 48_000)[None], 48_000, codec="aac", video_s=1.0).rename(
        folder / "film"
    )
    silent = folder / "silent"
    silent.write_bytes(wav(np.zeros(16_000)))
    return [*made, tagged, film, silent]


def test_the_content_decides_what_is_a_recording(tmp_path: Path) -> None:
    assert [why_passed_over(path) for path in make_recordings(tmp_path)] == [None] * 8


def test_what_is_no_recording_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    Image.new("RGB", (64, 64)).save(picture)
    contents = {
        "notes.txt": b"Some words. " * 100,
        "page.wav": b"<!DOCTYPE html><html><body>log in</body></html>",
        "list.mp3": b"#EXTM3U\nhttp://example/a.mp3\n",
        "archive.zip": b"PK\x03\x04" + bytes(range(256)) * 40,
        "noise.bin": np.random.default_rng(0).bytes(100_000),
        "empty": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [picture, *(tmp_path / name for name in contents), write_video_only(tmp_path / "mute.mp4")]
    reasons = {path.name: why_passed_over(path) for path in paths}
    assert all(reasons.values()), reasons
    assert reasons["page.wav"] == "The file is a web page (HTML), not media"
    assert reasons["list.mp3"] == "The file is a playlist; give the address of the media that it names"
    assert reasons["mute.mp4"] == "The file has no audio track"


def test_a_broken_recording_is_not_passed_over(tmp_path: Path) -> None:
    """The service says what is wrong with it: it counts as a failure."""
    whole = write_media(tmp_path / "a.mp4", tone(2.0, 48_000)[None], 48_000, codec="aac").read_bytes()
    for name, content in (("cut.mp4", whole[: len(whole) // 2]), ("empty.wav", b""), ("x.OGG", b"OggS broken")):
        (tmp_path / name).write_bytes(content)
        assert why_passed_over(tmp_path / name) is None
    assert why_passed_over(tmp_path / "gone.wav") is None
