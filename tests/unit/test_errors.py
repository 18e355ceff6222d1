"""Every error survives the way between processes, and reports as its table says."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

import pytest

from serve_app import errors
from serve_app.errors import Overloaded, ServeAppError


def tree(root: type[ServeAppError] = ServeAppError) -> Iterator[type[ServeAppError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:  # not what Ray made of one of ours in another test: RayTaskError(…)
            yield from tree(kind)


def drawn_tree() -> dict[str, tuple[int, str]]:
    """Return status and code of each class that the module's docstring draws with them."""
    row = re.compile(r"^[\s│├└─]*(\w+)\s+(\d{3}) ([A-Z_]+)", re.MULTILINE)
    return {name: (int(status), code) for name, status, code in row.findall(errors.__doc__ or "")}


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickles_with_all_arguments(kind: type[ServeAppError], protocol: int) -> None:
    arguments = ("자세한 내용", 7.5) if issubclass(kind, Overloaded) else ("자세한 내용",)
    error = kind(*arguments)
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert copy.args == arguments
    assert copy.__dict__ == error.__dict__
    assert (copy.detail, copy.code, copy.http_status) == ("자세한 내용", kind.code, kind.http_status)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_can_be_raised_without_arguments(kind: type[ServeAppError]) -> None:
    copy = pickle.loads(pickle.dumps(kind()))
    assert copy.detail == ""


def test_retry_after_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(errors.Unavailable("Diarizer is starting", 12.0)))
    assert copy.retry_after_s == 12.0


def test_docstring_draws_the_tree_as_it_is() -> None:
    drawn = drawn_tree()
    # the branches that nothing raises themselves are drawn without status and code
    bare = {"MediaError", "ModelError", "JobError"}
    assert drawn == {kind.__name__: (kind.http_status, kind.code) for kind in tree() if kind.__name__ not in bare}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("DOWNLOAD_ERROR", {"DownloadError", "AddressRefused", "MediaTooLarge", "DownloadInterrupted"}),
        ("AUDIO_EXTRACTION_ERROR", {"AudioExtractionError"}),
        (
            "PROCESSING_ERROR",
            {
                "ProcessingError",
                "LanguageUnsupported",
                "TaskUnsupported",
                "CaptionRefused",
                "MusicRefused",
                "StorageError",
            },
        ),
        ("MODEL_LOADING_ERROR", {"ModelLoadingError", "ModelSourceUnreachable"}),
        ("GPU_MEMORY_ERROR", {"GpuMemoryError"}),
    ],
)
def test_contract_codes_name_these_classes(code: str, names: set[str]) -> None:
    assert {kind.__name__ for kind in tree() if kind.code == code} == names


def test_only_what_may_pass_is_transient() -> None:
    assert {kind.__name__ for kind in tree() if kind.transient} == {
        "DownloadInterrupted",
        "StorageError",
        "Overloaded",
        "QuotaExceeded",
        "Unavailable",
        "ReplicaLost",
        "ReplicaDied",
        "StorageUnavailable",
        "NoRoomYet",
        "RateLimited",
    }


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_its_text_is_the_sentence(kind: type[ServeAppError]) -> None:
    arguments = (7.5,) if issubclass(kind, Overloaded) else ()
    assert str(kind("자세한 내용", *arguments)) == "자세한 내용"
    assert str(errors.ReplicaDied("a replica was lost", 5.0, "0123")) == "a replica was lost"
