"""`serve-app models fetch`: downloads models of the catalog to this machine, with a bar; needs no server."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence

from huggingface_hub.utils import disable_progress_bars
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from serve_app.commands.models.command import DEFAULT_NAMES
from serve_app.commands.terminal import echo, short_path, stdout_console
from serve_app.errors import ModelLoadingError, ModelSourceUnreachable
from serve_app.models.catalog import CatalogModel, catalog, files_here, find_model
from serve_app.models.catalog_fetch import fetch_model, forget_silences
from serve_app.settings import Settings

_WITHOUT = (
    "Everything works without them, with the models that come with serve_app: pocketsphinx transcribes English, "
    "whisper-micro a few hundred words of English and Korean, and diarization uses the segmentation network of the "
    "whisperx package. Run `serve-app models fetch` once a source can be reached; docs/models/catalog.md explains how "
    "to name a mirror, or how to copy the files to a machine without a network."
)


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch the models named; return 0 if all are here, 1 if not, with `--optional` 0 too if no source has them."""
    settings = Settings.from_environment()
    models = _models(arguments.names or DEFAULT_NAMES)
    console = stdout_console()
    here = [files_here(model, settings.models_dir) for model in models]
    if arguments.optional and all(files and not any(file.is_damaged for file in files) for files in here):
        return 0
    forget_silences(settings.models_dir)
    disable_progress_bars()  # of the libraries; this command prints its own, and their warnings
    logging.getLogger("serve_app").addHandler(logging.NullHandler())
    absent: dict[str, str] = {}
    is_wrong = False
    for model in models:
        try:
            _fetch_one(model, settings, console)
        except ModelSourceUnreachable as error:
            absent[model.name] = error.detail
        except ModelLoadingError as error:
            is_wrong = True
            echo(console, error.detail)
    if absent and arguments.optional:
        echo(console, f"No source gives {', '.join(absent)}. {next(iter(absent.values()))}. {_WITHOUT}")
    else:
        echo(console, *absent.values())
    return 1 if is_wrong or (absent and not arguments.optional) else 0


def _models(names: Sequence[str]) -> list[CatalogModel]:
    found = {name: find_model(name) for name in names}
    unknown = [name for name, model in found.items() if model is None]
    if unknown:
        raise ModelLoadingError(
            f"The catalog has no {', '.join(map(repr, unknown))}; it has {', '.join(model.name for model in catalog())}"
        )
    return list({model.name: model for model in found.values() if model is not None}.values())


def _fetch_one(model: CatalogModel, settings: Settings, console: Console) -> None:
    began = time.monotonic()
    bars: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def show(what: str, num_bytes: int, total_bytes: int | None) -> None:
            if what not in bars:
                bars[what] = progress.add_task(f"{model.name}: {what}", total=total_bytes)
                if not console.is_terminal:
                    size = f" ({total_bytes / 1e6:.1f} MB)" if total_bytes else ""
                    echo(console, f"{model.name}: {what}{size}")
            progress.update(bars[what], completed=num_bytes)

        fetched = fetch_model(
            model,
            settings.models_dir,
            hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
            mirror=settings.model_mirror.get_secret_value() if settings.model_mirror else None,
            on_progress=show,
        )
    echo(console, *(f"  {failure}" for failure in fetched.failures))
    if not fetched.was_fetched:
        echo(console, f"{model.name}: here already, in {short_path(fetched.path)}")
        return
    here = files_here(model, settings.models_dir)
    sources = "; ".join(dict.fromkeys(each.source for each in here))
    megabytes = sum(each.file.size_bytes or 0 for each in here) / 1e6
    echo(
        console,
        f"{model.name}: {megabytes:.1f} MB from {sources} in {time.monotonic() - began:.0f} s, {model.licence}, in "
        f"{short_path(fetched.path)}",
    )
