"""The Hugging Face hub: a repository as a folder (`fetch_repository`), files at a fixed revision (`HubSource`).

huggingface_hub downloads and resumes. This module chooses the files, checks the hashes that it leaves unchecked, and
explains its errors.
"""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from threading import Event, Thread

import huggingface_hub
import requests
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from serve_app.errors import ModelLoadingError
from serve_app.models.built_folder import DISK_FULL
from serve_app.models.catalog import CatalogFile, HubRepository
from serve_app.models.file_hashes import sha256_of
from serve_app.models.model_source import NUM_TRIES, ModelSource, OnProgress, SourceFailed, growing_bytes
from serve_app.sentences import Sentence

logger = logging.getLogger(__name__)

_FILE_TIMEOUT_S = 5.0
_REPOSITORY_TIMEOUT_S = 10.0
_POLL_S = 0.2
_BROKEN_OFF = requests.exceptions.ChunkedEncodingError  # the client itself repeats the other errors

# configurations, vocabularies, sentencepiece models, and chat templates
_SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
# In the order of preference; a repository may hold the same weights in several forms.
_WEIGHTS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("*.safetensors",),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
    ("*.bin", "*.pth", "*.pt"),
)


class HubSource(ModelSource):
    """A repository of one model.

    Args:
        token: opens gated models; None: the token that `huggingface-cli login` stored, if any.
    """

    host = "Hugging Face hub"

    def __init__(self, hub: HubRepository, token: str | None, on_progress: OnProgress) -> None:
        self._hub = hub
        self._token = token
        self._on_progress = on_progress
        self.label = f"Hugging Face hub ({hub.repository}@{hub.revision[:8]})"

    def fetch(self, file: CatalogFile, path: Path) -> None:
        """Write a file; where the catalog has no SHA-256 of it, it must have the hash that the hub publishes.

        Raises:
            SourceFailed: the hub does not give it, or gives another file.
            OSError: the disk is full.
        """
        if constants.HF_HUB_OFFLINE:
            raise SourceFailed(Sentence("HF_HUB_OFFLINE forbids it"))
        try:
            published = self._published.get(file.name)
            if published is None:
                raise SourceFailed(Sentence("it has no {name}", name=file.name))
            size_bytes = file.size_bytes or published.size

            def report(num_bytes: int) -> None:
                self._on_progress(file.name, num_bytes, size_bytes)

            with _watched(path.parent / ".cache", report):
                self._download(file.name, path.parent)
            if size_bytes is not None:
                report(size_bytes)
        except OSError as error:  # so are the errors of huggingface_hub and requests
            if error.errno in DISK_FULL:
                raise
            raise _failure(error, file.name) from error
        if file.sha256 is None and not _has_published_hash(path, published):
            path.unlink(missing_ok=True)
            raise SourceFailed(
                Sentence(
                    "its {name} has another hash than the hub publishes, and was refused and deleted", name=file.name
                ),
                gave_nothing=False,
            )

    @retry(stop=stop_after_attempt(NUM_TRIES), retry=retry_if_exception_type(_BROKEN_OFF), reraise=True)
    def _download(self, name: str, folder: Path) -> None:
        huggingface_hub.hf_hub_download(
            self._hub.repository,
            name,
            revision=self._hub.revision,
            local_dir=folder,
            etag_timeout=_FILE_TIMEOUT_S,
            token=self._token,
        )

    @cached_property
    def _published(self) -> dict[str, RepoSibling]:
        """The hub's sizes and hashes of all files, in one request without the client's patient retries."""
        about = huggingface_hub.HfApi(token=self._token).model_info(
            self._hub.repository, revision=self._hub.revision, files_metadata=True, timeout=_FILE_TIMEOUT_S
        )
        return {sibling.rfilename: sibling for sibling in about.siblings or ()}


def _failure(error: OSError, name: str) -> SourceFailed:
    match error:
        case GatedRepoError():
            return SourceFailed(
                Sentence("it is gated: accept its terms on its page, then set HF_TOKEN to a token of that account")
            )
        case RepositoryNotFoundError() | RevisionNotFoundError():
            return SourceFailed(Sentence("it shows no such repository or revision; HF_TOKEN opens a private one"))
        case OfflineModeIsEnabled():
            return SourceFailed(Sentence("HF_HUB_OFFLINE forbids it"))
        # LocalEntryNotFoundError: the answers stopped after the first one
        case LocalEntryNotFoundError() | requests.ConnectionError() | requests.Timeout():
            return SourceFailed(Sentence("it can't be reached ({reason})", reason=type(error).__name__), is_silent=True)
        case HfHubHTTPError():
            return SourceFailed(
                Sentence(
                    "it answers {status} for {name}", status=getattr(error.response, "status_code", None), name=name
                )
            )
    return SourceFailed(Sentence("{name} did not come whole ({reason})", name=name, reason=type(error).__name__))


@contextmanager
def _watched(folder: Path, report: Callable[[int], None]) -> Iterator[None]:
    """Report the size of the file that grows in a folder: huggingface_hub has no hook for a single file."""
    ended = Event()

    def watch() -> None:
        while not ended.wait(_POLL_S):
            if num_bytes := growing_bytes(folder, "*.incomplete"):
                report(num_bytes)

    thread = Thread(target=watch, name="hub-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _has_published_hash(path: Path, published: RepoSibling) -> bool:
    """Compare with the SHA-256 of a large file, or with git's blob id of a small one."""
    if published.lfs is not None:
        return sha256_of(path) == published.lfs.sha256
    content = path.read_bytes()
    digest = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False)
    return digest.hexdigest() == published.blob_id


def fetch_repository(repository: str, revision: str | None, cache_dir: Path, token: str | None) -> Path:
    """Return the repository's folder, downloaded or brought up to date.

    Where the hub can't be reached, an earlier download is used: ours, else one of any program of this user.

    Raises:
        ModelLoadingError: it does not exist, may not be read, or can't be reached and was never downloaded.
    """
    shown = f"{repository}@{revision}" if revision else repository
    names: list[str] = []
    try:
        about = huggingface_hub.HfApi(token=token).model_info(
            repository, revision=revision, timeout=_REPOSITORY_TIMEOUT_S
        )
        names = choose_files([sibling.rfilename for sibling in about.siblings or ()])
        if not names:
            raise ModelLoadingError(
                Sentence("The repository {shown} on the Hugging Face hub holds no weights; name another", shown=shown)
            )
        patterns = [glob.escape(name) for name in names]
        return Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=patterns
            )
        )
    except GatedRepoError as error:
        raise ModelLoadingError(
            Sentence(
                "The model {shown} is gated: accept its terms on its page, then set HF_TOKEN to a token of that "
                "account",
                shown=shown,
            )
        ) from error
    except RevisionNotFoundError as error:
        raise ModelLoadingError(
            Sentence(
                "The model {repository} has no revision {revision}; correct what follows @",
                repository=repository,
                revision=repr(revision),
            )
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelLoadingError(
            Sentence(
                "The Hugging Face hub shows no model {shown}: correct the name, set HF_TOKEN if it is private, or "
                "name a local folder",
                shown=shown,
            )
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, requests.RequestException) as error:
        return _downloaded_before(repository, revision, cache_dir, names, error)
    except OSError as error:
        raise ModelLoadingError(
            Sentence(
                "The model {shown} can't be stored in {cache_dir} ({reason}): free space there, or let "
                "SERVE_APP_MODELS_DIR name another folder",
                shown=shown,
                cache_dir=cache_dir,
                reason=error.strerror or error,
            )
        ) from error


def choose_files(names: Sequence[str]) -> list[str]:
    """Return the small files at the top of a repository and its weights in one form; none where it has no weights."""
    top = [name for name in names if "/" not in name]
    for patterns in _WEIGHTS:
        weights = _matching(top, patterns)
        if weights and (len(patterns) == 1 or any(not name.endswith(".json") for name in weights)):
            return sorted({*weights, *_matching(top, _SMALL)})
    return []


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _downloaded_before(
    repository: str, revision: str | None, cache_dir: Path, names: Sequence[str], error: Exception
) -> Path:
    """Return the folder in our cache, else in the user's own (HF_HOME), that holds all `names`."""
    shown = f"{repository}@{revision}" if revision else repository
    for folder in (cache_dir, None):
        with suppress(LocalEntryNotFoundError):
            path = Path(
                huggingface_hub.snapshot_download(
                    repository, revision=revision, cache_dir=folder, local_files_only=True
                )
            )
            if all((path / name).is_file() for name in names):  # a download that broke off leaves a part
                logger.warning("%s: the hub gave no answer (%s); using %s", shown, type(error).__name__, path)
                return path
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        reason = Sentence("may not be read ({status}); set HF_TOKEN to a token that may", status=status)
    elif isinstance(error, OfflineModeIsEnabled):
        reason = Sentence("was never downloaded, and HF_HUB_OFFLINE forbids it; unset HF_HUB_OFFLINE once")
    else:
        why = Sentence("answer {status_code}", status_code=status) if status else type(error).__name__
        reason = Sentence(
            "can't be downloaded: the Hugging Face hub can't be reached ({why}); let this machine reach it", why=why
        )
    raise ModelLoadingError(
        Sentence("The model {shown} {reason}, or name a local folder that holds the model", shown=shown, reason=reason)
    ) from error
