"""`serve-app models fetch`: models of the catalog onto this machine, with a bar; needs no server."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from serve_app.commands.models.printing import console_of, folder_of
from serve_app.errors import ModelLoadingError, ModelSourceUnreachable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from serve_app.models.catalog import CatalogModel
    from serve_app.settings import Settings

# What speech to text and the separation of speakers use in the configurations that come with serve_app.
DEFAULT_NAMES = ("whisper-base", "pyannote-segmentation-3.0", "campplus-zh-en")

_WITHOUT = (
    "Everything works without them, with the models that come with serve_app: pocketsphinx transcribes English and "
    "whisper-micro a few hundred words of English and Korean, and speakers are told apart with the segmentation "
    "network of the whisperx package. Run `serve-app models fetch` once a source can be reached; "
    "docs/models/catalog.md tells how to name a mirror, or how to bring the files to a machine without a network."
)


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch what the arguments name: 0 if all is here, 1 if not; with `--optional` 0 too if no source gave anything."""
    from serve_app.models.catalog_state import files_here
    from serve_app.settings import Settings

    settings = Settings.from_environment()
    cache_dir = settings.models_dir
    models = _models(arguments.names or DEFAULT_NAMES)
    console = console_of()
    here = [files_here(model, cache_dir) for model in models]
    if arguments.optional and all(files and not any(file.is_damaged for file in files) for files in here):
        return 0
    from serve_app.models.catalog_fetch import forget_silences

    forget_silences(cache_dir)
    _quieten()
    absent: dict[str, str] = {}
    is_wrong = False
    for model in models:
        try:
            _fetch_one(model, settings, cache_dir, console)
        except ModelSourceUnreachable as error:
            absent[model.name] = error.detail
        except ModelLoadingError as error:
            is_wrong = True
            console.print(error.detail, markup=False, highlight=False, soft_wrap=True)
    if absent and arguments.optional:
        told = f"No source gives {', '.join(absent)}. {next(iter(absent.values()))}. {_WITHOUT}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    else:
        for told in absent.values():
            console.print(told, markup=False, highlight=False, soft_wrap=True)
    return 1 if is_wrong or (absent and not arguments.optional) else 0


def _models(names: Sequence[str]) -> list[CatalogModel]:
    from serve_app.models.catalog import catalog, find_model

    found = {name: find_model(name) for name in names}
    unknown = [name for name, model in found.items() if model is None]
    if unknown:
        raise ModelLoadingError(
            f"The catalog has no {', '.join(map(repr, unknown))}; it has {', '.join(model.name for model in catalog())}"
        )
    return list({model.name: model for model in found.values() if model is not None}.values())


def _fetch_one(model: CatalogModel, settings: Settings, cache_dir: Path, console: Console) -> None:
    from serve_app.models.catalog_fetch import fetch_model
    from serve_app.models.catalog_state import files_here

    began = time.monotonic()
    with _Bar(console, model.name) as bar:
        fetched = fetch_model(
            model,
            cache_dir,
            hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
            mirror=settings.model_mirror.get_secret_value() if settings.model_mirror else None,
            on_progress=bar.move,
        )
    lines = [f"  {failure}" for failure in fetched.failures]
    if fetched.was_fetched:
        here = files_here(model, cache_dir)
        sources = "; ".join(dict.fromkeys(each.source for each in here))
        megabytes = sum(each.file.size_bytes or 0 for each in here) / 1e6
        lines.append(
            f"{model.name}: {megabytes:.1f} MB from {sources} in {time.monotonic() - began:.0f} s, {model.licence}, "
            f"in {folder_of(fetched.path)}"
        )
    else:
        lines.append(f"{model.name}: here already, in {folder_of(fetched.path)}")
    console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)


class _Bar:
    """How far the downloads of a model are; where nothing can move, a line for each is all."""

    def __init__(self, console: Console, name: str) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._name = name
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def move(self, what: str, num_bytes: int, total_bytes: int | None) -> None:
        """Show how far a download is."""
        from rich.markup import escape

        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(escape(f"{self._name}: {what}"), total=total_bytes)
            if not self._console.is_terminal:
                size = f" ({total_bytes / 1e6:.1f} MB)" if total_bytes else ""
                self._console.print(f"{self._name}: {what}{size}", markup=False, highlight=False, soft_wrap=True)
        self._progress.update(self._tasks[what], completed=num_bytes)


def _quieten() -> None:
    """Keep the libraries' own bars and warnings off the terminal: what they tell is printed here."""
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    logging.getLogger("serve_app").addHandler(logging.NullHandler())
