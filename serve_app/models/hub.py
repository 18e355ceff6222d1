"""The Hugging Face hub: a repository as a folder (`fetch_repository`), files at a fixed revision (`HubSource`)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event, Thread

import huggingface_hub
import requests
from huggingface_hub import constants
from huggingface_hub.errors import (
    FileMetadataError,
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
from serve_app.models.model_source import NUM_TRIES, OnProgress, SourceFailed

_TIMEOUT_S = 5.0
_POLL_S = 0.2
_BROKEN_OFF = requests.exceptions.ChunkedEncodingError  # the client itself repeats the rest


class HubSource:
    """A repository of one model; huggingface_hub resumes a download that broke off.

    Args:
        token: opens gated models; None: what `huggingface-cli login` left, if anything.
    """

    host = "Hugging Face hub"

    def __init__(self, hub: HubRepository, token: str | None, on_progress: OnProgress) -> None:
        self._hub = hub
        self._token = token
        self._on_progress = on_progress
        self._siblings: dict[str, RepoSibling] | None = None
        self.label = f"Hugging Face hub ({hub.repository}@{hub.revision[:8]})"

    def needed_bytes(self, files: Sequence[CatalogFile]) -> int:
        """Return how much space fetching these files takes until it ends."""
        return sum(file.size_bytes or 0 for file in files)

    def fetch(self, file: CatalogFile, path: Path) -> None:
        """Write a file. One whose SHA-256 the catalog does not know is held to the hash that the hub tells.

        Raises:
            SourceFailed: it can't be had, or is not what the hub says.
            OSError: the disk is full.
        """
        if constants.HF_HUB_OFFLINE:
            raise SourceFailed("HF_HUB_OFFLINE forbids it")
        try:
            told = self._told(file.name)
            with _Watch(path.parent, file.name, file.size_bytes or told.size, self._on_progress):
                self._download(file.name, path.parent)
        except GatedRepoError as error:
            raise SourceFailed(
                "it is gated: accept its terms on its page, then set HF_TOKEN to a token of that account"
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise SourceFailed("it shows no such repository or revision; HF_TOKEN opens a private one") from error
        except LocalEntryNotFoundError as error:  # the answers stopped after the first one
            raise SourceFailed(f"it can't be reached ({type(error).__name__})", is_silent=True) from error
        except OfflineModeIsEnabled as error:
            raise SourceFailed("HF_HUB_OFFLINE forbids it") from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            raise SourceFailed(f"it answers {status} for {file.name}") from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise SourceFailed(f"it can't be reached ({type(error).__name__})", is_silent=True) from error
        except (FileMetadataError, OSError) as error:  # requests' errors are OSErrors too
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            raise SourceFailed(f"{file.name} did not come whole ({type(error).__name__})") from error
        if file.sha256 is None and not _is_as_told(path, told):
            path.unlink(missing_ok=True)
            raise SourceFailed(
                f"its {file.name} has another hash than the hub tells, and was refused and deleted", gave_nothing=False
            )

    @retry(stop=stop_after_attempt(NUM_TRIES), retry=retry_if_exception_type(_BROKEN_OFF), reraise=True)
    def _download(self, name: str, folder: Path) -> None:
        huggingface_hub.hf_hub_download(
            self._hub.repository,
            name,
            revision=self._hub.revision,
            local_dir=folder,
            etag_timeout=_TIMEOUT_S,
            token=self._token,
        )

    def _told(self, name: str) -> RepoSibling:
        """Return what the hub tells of a file; asked once for all of them, and without the client's patient retries."""
        if self._siblings is None:
            about = huggingface_hub.HfApi(token=self._token).model_info(
                self._hub.repository, revision=self._hub.revision, files_metadata=True, timeout=_TIMEOUT_S
            )
            self._siblings = {sibling.rfilename: sibling for sibling in about.siblings or ()}
        if name not in self._siblings:
            raise SourceFailed(f"it has no {name}")
        return self._siblings[name]


class _Watch:
    """Tell how far a download is by the size of what grows; huggingface_hub has no hook for a single file."""

    def __init__(self, folder: Path, name: str, size_bytes: int | None, on_progress: OnProgress) -> None:
        self._folder = folder
        self._name = name
        self._size_bytes = size_bytes
        self._on_progress = on_progress
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="hub-watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()
        if raised[0] is None and self._size_bytes is not None:
            self._on_progress(self._name, self._size_bytes, self._size_bytes)

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_S):
            growing = list((self._folder / ".cache").rglob("*.incomplete"))
            if growing:
                self._on_progress(self._name, max(map(_size, growing)), self._size_bytes)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was complete meanwhile
        return 0


def _is_as_told(path: Path, told: RepoSibling) -> bool:
    """Whether a file has the hash that the hub tells: SHA-256 of a large one, git's blob id of a small one."""
    if told.lfs is not None:
        return sha256_of(path) == told.lfs.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest() == told.blob_id


logger = logging.getLogger(__name__)

# configurations, vocabularies, and sentencepiece models
_SMALL = ("*.json", "*.txt", "*.model")
# In the order of preference; a repository may hold the same weights in several forms.
_WEIGHTS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("*.safetensors",),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
    ("*.bin", "*.pth", "*.pt"),
)
_INFO_TIMEOUT_S = 10.0


def fetch_repository(repository: str, revision: str | None, cache_dir: Path, token: str | None) -> Path:
    """Return the repository's folder, downloaded or brought up to date.

    Where the hub can't be reached, what was downloaded before is used: by us, else by any program of this user.

    Raises:
        ModelLoadingError: it does not exist, may not be read, or can't be reached and was never downloaded.
    """
    shown = f"{repository}@{revision}" if revision else repository
    names: list[str] = []
    try:
        about = huggingface_hub.HfApi(token=token).model_info(repository, revision=revision, timeout=_INFO_TIMEOUT_S)
        names = choose_files([sibling.rfilename for sibling in about.siblings or ()])
        if not names:
            raise ModelLoadingError(f"The repository {shown} on the Hugging Face hub holds no weights; name another")
        return Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=_literally(names)
            )
        )
    except GatedRepoError as error:
        raise ModelLoadingError(
            f"The model {shown} is gated: accept its terms on its page, then set HF_TOKEN to a token of that account"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelLoadingError(
            f"The model {repository} has no revision {revision!r}; correct what follows @"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelLoadingError(
            f"The Hugging Face hub shows no model {shown}: correct the name, set HF_TOKEN if it is private, or name a "
            "local folder"
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, requests.RequestException) as error:
        return _downloaded_before(repository, revision, cache_dir, names, error)
    except OSError as error:
        raise ModelLoadingError(
            f"The model {shown} can't be stored in {cache_dir} ({error.strerror or error}): free space there, or let "
            "SERVE_APP_MODELS_DIR name another folder"
        ) from error


def choose_files(names: Sequence[str]) -> list[str]:
    """Return the small files at the top of a repository and its weights in one form; none where it has no weights."""
    top = [name for name in names if "/" not in name]
    for patterns in _WEIGHTS:
        weights = [name for name in top if _matches(name, patterns)]
        if weights and (len(patterns) == 1 or any(not name.endswith(".json") for name in weights)):
            return sorted({*weights, *(name for name in top if _matches(name, _SMALL))})
    return []


def _downloaded_before(
    repository: str, revision: str | None, cache_dir: Path, names: Sequence[str], error: Exception
) -> Path:
    """Return what lies in our cache, else in the user's own (HF_HOME), or say why there is nothing.

    Args:
        names: files that it must hold, as far as the hub could still tell.
    """
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
        reason, remedy = f"may not be read ({status})", "set HF_TOKEN to a token that may"
    elif isinstance(error, OfflineModeIsEnabled):
        reason, remedy = "was never downloaded, and HF_HUB_OFFLINE forbids it", "unset HF_HUB_OFFLINE once"
    else:
        why = f"answer {status}" if status else type(error).__name__
        reason, remedy = (
            f"can't be downloaded: the Hugging Face hub can't be reached ({why})",
            "let this machine reach it",
        )
    raise ModelLoadingError(
        f"The model {shown} {reason}; {remedy}, or name a local folder that holds the model"
    ) from error


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _literally(names: Sequence[str]) -> list[str]:
    """Return patterns that match these names alone."""
    return [re.sub(r"([*?[])", r"[\1]", name) for name in names]
