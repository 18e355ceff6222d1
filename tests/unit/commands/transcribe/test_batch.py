"""How a batch knows that a file changed, and its journal: nothing half-written counts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from serve_app.commands.transcribe.batch import (
    UNREADABLE,
    Failure,
    Fingerprint,
    Journal,
    Outcome,
    Transcript,
    failures_path,
    write_results,
)
from serve_app.errors import InvalidRequest

NAMES = ["b.wav", "a.MP3", "노래.m4a", "notes.txt", "sub/c.ogg"]
BATCH = {"folder": "/calls", "language": "ko", "backend": None}
STATE = Fingerprint(3, 4, "ab")


def transcribed(name: str, text: str = "안녕하세요") -> Outcome:
    return Outcome(name, STATE, Transcript(text, "ko", 1.5))


def failed(name: str) -> Outcome:
    return Outcome(name, None, Failure(UNREADABLE, "gone"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.json.journal"


def reopened(path: Path) -> list[Outcome]:
    with Journal(path, BATCH) as journal:
        return list(journal.outcomes.values())


class TestFingerprint:
    def test_unchanged_is_known_without_reading(self, folder: Path) -> None:
        known = Fingerprint(5, (folder / "b.wav").stat().st_mtime_ns, "whatever it is")
        assert known.matches(folder / "b.wav")

    def test_touched_is_the_same(self, folder: Path) -> None:
        known = Fingerprint.of(folder / "b.wav")
        os.utime(folder / "b.wav", ns=(1, 1))
        assert known.matches(folder / "b.wav")

    @pytest.mark.parametrize("content", [b"b.wax", b"b.wav ", b""])
    def test_changed_or_gone(self, folder: Path, content: bytes) -> None:
        path = folder / "b.wav"
        known = Fingerprint.of(path)
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        assert not known.matches(path)
        path.unlink()
        assert not known.matches(path)

    def test_hash_is_of_the_content(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc")
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
        state = Fingerprint.of(tmp_path / "a")
        assert (state.num_bytes, state.sha256) == (3, sha256)


class TestJournal:
    def test_what_was_recorded_comes_back_and_later_lines_win(self, path: Path) -> None:
        strange = transcribed(os.fsdecode(b"caf\xe9\n\x1b.wav"), 'line\n"quote" \\ \u2028 \ud800')
        speakers = [{"start": 0.0, "end": 1.0, "speaker": "SPEAKER_00", "text": "네"}]
        diarized = Outcome("d", STATE, Transcript("네", None, 1.0, speakers))
        with Journal(path, BATCH) as journal:
            for outcome in (failed("a"), transcribed("b", "old"), strange, diarized):
                journal.record(outcome)
        assert reopened(path) == [failed("a"), transcribed("b", "old"), strange, diarized]
        with Journal(path, BATCH) as journal:
            journal.record(transcribed("a"))
            journal.record(transcribed("b", "new"))
        assert reopened(path)[:2] == [transcribed("a"), transcribed("b", "new")]

    def test_journal_of_an_earlier_version_is_read(self, path: Path) -> None:
        path.write_bytes(
            '{"serve_app_batch":1,"folder":"/calls","language":"ko","backend":null}\n'
            '{"name":"가.wav","fingerprint":{"num_bytes":3,"mtime_ns":4,"sha256":"ab"},'
            '"heard":{"text":"안녕하세요","language":"ko","duration_s":1.5}}\n'
            '{"name":"b","fingerprint":null,"failure":{"code":"FILE_UNREADABLE","detail":"gone"}}\n'.encode()
            + b'{"name":"caf\xe9","fingerprint":{"num_bytes":3,"mtime_ns":4,"sha256":"ab"},'
            b'"heard":{"text":"x","language":"ko","duration_s":1.5,"segments":null}}\n'
        )
        assert reopened(path) == [transcribed("가.wav"), failed("b"), transcribed("caf\udce9", "x")]

    def test_any_cut_keeps_what_was_whole(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A crash may leave any prefix of the bytes: each keeps its whole lines, and the next run goes on from it."""
        monkeypatch.setattr(os, "fsync", lambda handle: None)  # only a power cut could tell, and 600 are slow
        with Journal(path, BATCH) as journal:
            for outcome in (transcribed("a"), failed("b"), transcribed("c")):
                journal.record(outcome)
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            num_lines = whole[:length].count(b"\n")
            with Journal(path, BATCH) as journal:
                assert list(journal.outcomes) == ["a", "b", "c"][: max(num_lines - 1, 0)]
                journal.record(transcribed("d"))
            assert reopened(path)[-1] == transcribed("d")
            assert all(json.loads(line) for line in path.read_bytes().splitlines())

    def test_is_on_the_disk_before_record_returns(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[int] = []
        with Journal(path, BATCH) as journal:
            monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
            journal.record(transcribed("a"))
            assert synced == [path.stat().st_size]

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"language": "en"}, "language 'ko', not 'en'"),
            ({"folder": "/x"}, "folder"),
            ({"backend": "x"}, "backend None"),
        ],
    )
    def test_another_batch_is_refused(self, path: Path, other: dict[str, str], message: str) -> None:
        with Journal(path, BATCH) as journal:
            journal.record(transcribed("a"))
        before = path.read_bytes()
        with pytest.raises(InvalidRequest, match=message) as caught:
            Journal(path, {**BATCH, **other})
        assert "--start-over" in caught.value.detail
        assert path.read_bytes() == before

    @pytest.mark.parametrize("line", [b"{not json}\n", b'{"name": "a"}\n', b"[]\n", b'"text"\n', b"\xff\n"])
    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_damaged_line_is_named_and_nothing_is_touched(self, path: Path, line: bytes, at: int) -> None:
        with Journal(path, BATCH) as journal:
            journal.record(transcribed("a"))
            journal.record(transcribed("b"))
        lines = path.read_bytes().splitlines(keepends=True)
        lines.insert(at, line)
        path.write_bytes(b"".join(lines))
        before = path.read_bytes()
        with pytest.raises(InvalidRequest, match=f"line {at + 1} is damaged"):
            Journal(path, BATCH)
        assert path.read_bytes() == before

    def test_other_version_is_refused(self, path: Path) -> None:
        path.write_text(json.dumps({"serve_app_batch": 2, **BATCH}) + "\n")
        with pytest.raises(InvalidRequest, match="another version"):
            Journal(path, BATCH)


class TestResults:
    def test_results_and_failures_beside_them(self, tmp_path: Path) -> None:
        out = tmp_path / "results.json"
        write_results(out, [transcribed("나.wav", "안녕 \ud800"), failed("b.wav"), transcribed("caf\udce9.wav", "")])
        assert json.loads(out.read_text("utf-8")) == [
            {"file": "caf\\xe9.wav", "text": "", "language": "ko", "duration": 1.5},
            {"file": "나.wav", "text": "안녕 ?", "language": "ko", "duration": 1.5},
        ]
        assert "안녕" in out.read_text("utf-8")  # for people, too
        failures = json.loads(failures_path(out).read_text())
        assert failures == [{"file": "b.wav", "error_code": "FILE_UNREADABLE", "error": "gone"}]
        write_results(out, [])
        assert json.loads(out.read_text()) == []
        assert not failures_path(out).exists()

    def test_readers_never_see_half_a_list(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = tmp_path / "results.json"
        write_results(out, [transcribed("a")])
        before = out.read_bytes()

        def no_space(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            write_results(out, [transcribed("b")])
        assert out.read_bytes() == before
