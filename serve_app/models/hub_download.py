"""A repository of the Hugging Face hub as a local folder: only the files that a model is loaded from."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import huggingface_hub
import requests
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from serve_app.errors import ModelLoadingError

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
_TIMEOUT_S = 10.0


def fetch_repository(repository: str, revision: str | None, cache_dir: Path, token: str | None) -> Path:
    """Return the repository's folder, downloaded or brought up to date.

    Where the hub can't be reached, what was downloaded before is used: by us, else by any program of this user.

    Raises:
        ModelLoadingError: it does not exist, may not be read, or can't be reached and was never downloaded.
    """
    shown = f"{repository}@{revision}" if revision else repository
    names: list[str] = []
    try:
        about = huggingface_hub.HfApi(token=token).model_info(repository, revision=revision, timeout=_TIMEOUT_S)
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
