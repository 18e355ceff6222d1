"""`Journal`: the outcomes of a batch's files, kept in a file; and the results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from serve_app.commands.whole_file import replace_file
from serve_app.errors import InvalidRequest, ServeAppError
from serve_app.sentences import Sentence

UNREADABLE = "FILE_UNREADABLE"  # the one code that no service answers
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file's state. The content is read only where the time differs."""

    num_bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file; OSError if it can't be read."""
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            return cls(status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())

    def matches(self, path: Path) -> bool:
        """Return whether a file still has this content; not if it can't be read."""
        try:
            status = path.stat()
            return status.st_size == self.num_bytes and (
                status.st_mtime_ns == self.mtime_ns or self.of(path).sha256 == self.sha256
            )
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Transcript:
    """A file's words; with `--diarize`, its segments of `start`, `end`, `speaker` and `text`."""

    text: str
    language: str | None
    duration_s: float
    segments: list[dict[str, Any]] | None = None

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any], *, diarize: bool) -> Self:
        """Read an answer of `POST /transcribe`, or a job's result; ServeAppError if it is neither."""
        try:
            facts = answer.get("metadata", {})
            duration_s = float(answer["duration"] if "duration" in answer else facts["duration"])
            if not diarize:
                return cls(str(answer["text"]), answer["language"], duration_s)
            segments: list[dict[str, Any]] = [
                {
                    "start": float(segment["start_time"]),
                    "end": float(segment["end_time"]),
                    "speaker": str(segment["speaker"]["speaker_id"]),
                    "text": str(segment["text"]),
                }
                for segment in answer["segments"]
            ]
            text = " ".join(segment["text"] for segment in segments)
            return cls(text, facts["language_detected"], duration_s, segments)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ServeAppError(
                Sentence("the answer is not one of this service ({fault})", fault=repr(error))
            ) from None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a file has no transcript: `code` is one of the service's error codes, or UNREADABLE."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one file, whose name is below the batch's folder; no fingerprint: it could not be read."""

    name: str
    fingerprint: Fingerprint | None
    end: Transcript | Failure


class Journal:
    """A JSON Lines file with a line for each file that ended. Close it, or use it as a context manager.

    The first line holds the batch's options; a later line of a file replaces an earlier one. A last line that a crash
    left unfinished is cut off.

    Attributes:
        outcomes: the last outcome of each file, by name.

    Args:
        path: of the journal, which is created if it is missing.
        batch: the options in which every run on this journal must agree, e.g. folder and language.

    Raises:
        InvalidRequest: the journal is another batch's, another version's, or damaged.
    """

    def __init__(self, path: Path, batch: Mapping[str, str | None]) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._path = path
        self._file = open(path, "a+b")  # noqa: SIM115 (open as long as the journal is)
        try:
            end = self._read(batch)
            self._file.truncate(end)
            if not end:
                self._append({"serve_app_batch": _VERSION, **batch})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def record(self, outcome: Outcome) -> None:
        """Append an outcome; it is on the disk once this returns."""
        # "heard" is the key of a transcript in the journals of all versions
        key = "heard" if isinstance(outcome.end, Transcript) else "failure"
        fingerprint = asdict(outcome.fingerprint) if outcome.fingerprint else None
        self._append({"name": outcome.name, "fingerprint": fingerprint, key: asdict(outcome.end)})
        self.outcomes[outcome.name] = outcome

    def _append(self, record: Mapping[str, Any]) -> None:
        # ASCII only: a name may hold bytes that are not UTF-8, and a text half a surrogate pair
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, batch: Mapping[str, str | None]) -> int:
        """Read all whole lines and return where they end."""
        end = 0
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break  # a crash left it unfinished
            try:
                record = json.loads(line.decode("utf-8", "surrogateescape"))
                if number == 1:
                    self._check(record, batch)
                else:
                    end_of_file = Transcript(**record["heard"]) if "heard" in record else Failure(**record["failure"])
                    fingerprint = Fingerprint(**record["fingerprint"]) if record["fingerprint"] else None
                    self.outcomes[record["name"]] = Outcome(record["name"], fingerprint, end_of_file)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InvalidRequest(
                    Sentence(
                        "{name}: line {number} is damaged; remove that line to transcribe its file again, or use"
                        " --start-over",
                        name=str(self._path),
                        number=number,
                    )
                ) from None
            end += len(line)
        return end

    def _check(self, header: dict[str, Any], batch: Mapping[str, str | None]) -> None:
        if header["serve_app_batch"] != _VERSION:
            raise InvalidRequest(
                Sentence("another version of serve-app wrote {name}; name another --out", name=str(self._path))
            )
        for name, value in batch.items():
            if header.get(name) != value:
                raise InvalidRequest(
                    Sentence(
                        "{path} was begun with {name} {before}, not {now}: name another --out, or use --start-over (if"
                        " you only moved the folder, correct the journal's first line)",
                        path=str(self._path),
                        name=name,
                        before=repr(header.get(name)),
                        now=repr(value),
                    )
                )


def failures_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.failures")


def write_results(out: Path, outcomes: Iterable[Outcome]) -> None:
    """Replace the results and the list of failures, each at once.

    `out` is a list of objects with exactly `file`, `text`, `language` and `duration` (seconds), and with `segments`
    where speakers were asked for, sorted by file. Failures are in `<out>.failures`, which exists only if there are any.
    """
    by_name = sorted(outcomes, key=lambda outcome: outcome.name)
    replace_file(out, _json([result_of(each) for each in by_name if isinstance(each.end, Transcript)]))
    failures = [result_of(each) for each in by_name if isinstance(each.end, Failure)]
    if failures:
        replace_file(failures_path(out), _json(failures))
    else:
        failures_path(out).unlink(missing_ok=True)


def result_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as an object of the results, or of the list of failures."""
    name, end = readable_name(outcome.name), outcome.end
    if isinstance(end, Failure):
        return {"file": name, "error_code": end.code, "error": end.detail}
    words = {"file": name, "text": end.text, "language": end.language, "duration": end.duration_s}
    return words if end.segments is None else {**words, "segments": end.segments}


def readable_name(name: str) -> str:
    """Return a name that is valid UTF-8: bytes that are not become `\\xNN`, so that two names stay two names."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _json(entries: list[dict[str, Any]]) -> bytes:
    # "replace": JSON can hold half a surrogate pair, which no UTF-8 file can
    return (json.dumps(entries, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")
