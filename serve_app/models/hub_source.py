"""Single files of a repository on the Hugging Face hub, at a fixed revision; huggingface_hub resumes what broke off."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

import huggingface_hub
import requests
from huggingface_hub import constants
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from serve_app.models.built_folder import DISK_FULL
from serve_app.models.catalog import CatalogFile, HubRepository
from serve_app.models.file_hashes import sha256_of
from serve_app.models.model_source import NUM_TRIES, OnProgress, SourceFailed

_TIMEOUT_S = 5.0
_POLL_S = 0.2
_BROKEN_OFF = requests.exceptions.ChunkedEncodingError  # the client itself repeats the rest


class HubSource:
    """A repository of one model.

    Args:
        hub: repository and revision.
        token: opens gated models; None: what `huggingface-cli login` left, if anything.
        on_progress: told how far a download is.
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
