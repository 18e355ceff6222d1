"""What became of one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from serve_app.commands.transcribe.media_files import Fingerprint
from serve_app.errors import ServeAppError

UNREADABLE = "FILE_UNREADABLE"  # the one code that no service answers


@dataclass(frozen=True, slots=True)
class Heard:
    """A file's words.

    Attributes:
        text: of the whole file.
        language: that was spoken; None where nothing told.
        duration_s: of the file's audio.
        segments: who said what, each with `start`, `end`, `speaker` and `text`; None where nobody asked.
    """

    text: str
    language: str | None
    duration_s: float
    segments: list[dict[str, Any]] | None = None

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any], *, diarize: bool = False) -> Self:
        """Read an answer of `POST /transcribe`, or a job's result; ServeAppError if it is neither.

        Args:
            answer: with `diarize`, that to a form with `diarize=true`, or a job's result.
            diarize: whether its segments are wanted.
        """
        try:
            if diarize:
                facts = answer["metadata"]
                segments = [_segment(segment) for segment in answer["segments"]]
                language = None if facts["language_detected"] is None else _storable(str(facts["language_detected"]))
                duration_s = float(answer["duration"] if "duration" in answer else facts["duration"])
                return cls(" ".join(segment["text"] for segment in segments), language, duration_s, segments)
            language = answer["language"]
            return cls(
                _storable(str(answer["text"])),
                None if language is None else _storable(str(language)),
                float(answer["duration"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ServeAppError(f"the answer is not one of this service ({error!r})") from None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a file has no words: `code` is one of the service's error codes, or UNREADABLE."""

    code: str
    detail: str

    @classmethod
    def of(cls, error: ServeAppError | OSError) -> Self:
        """Tell of an error, in text that every file can hold."""
        if isinstance(error, ServeAppError):
            return cls.told(error.code, error.detail or error.code)
        return cls.told(UNREADABLE, f"the file can't be read: {error.strerror or repr(error)}")

    @classmethod
    def told(cls, code: str, detail: str) -> Self:
        """Tell what the service told."""
        return cls(_storable(code), _storable(detail))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one file.

    Attributes:
        name: of the file, below the run's folder.
        fingerprint: of the content that was sent; None where the file could not be read.
        end: its words, or why there are none.
    """

    name: str
    fingerprint: Fingerprint | None
    end: Heard | Failure

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        print_ = None if self.fingerprint is None else asdict(self.fingerprint)
        kind = "heard" if isinstance(self.end, Heard) else "failure"
        return {"name": self.name, "fingerprint": print_, kind: asdict(self.end)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read what `to_record` made; KeyError or TypeError for anything else."""
        print_ = record["fingerprint"]
        end = Heard(**record["heard"]) if "heard" in record else Failure(**record["failure"])
        return cls(record["name"], None if print_ is None else Fingerprint(**print_), end)


def _segment(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "start": float(told["start_time"]),
        "end": float(told["end_time"]),
        "speaker": _storable(str(told["speaker"]["speaker_id"])),
        "text": _storable(str(told["text"])),
    }


def _storable(text: str) -> str:
    # JSON can hold half a surrogate pair, which no UTF-8 file can
    return text.encode("utf-8", "replace").decode()
