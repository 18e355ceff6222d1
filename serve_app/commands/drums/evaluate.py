"""`serve-app drums-eval`: transcripts against annotations by hand, as a table and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.commands.drums.local import LocalRoute
from serve_app.commands.drums.progress import FilesBar, sentence
from serve_app.commands.transcribe.media_files import shown
from serve_app.errors import InvalidRequest, ServeAppError
from serve_app.models.drums.annotations import Pairing, pair_files, read_annotation
from serve_app.models.drums.evaluation import DrumFigures, Evaluation, FileScore, Score, evaluate, score_file

_MAX_SHOWN = 10


def evaluate_folders(
    audio_dir: Path, annotation_dir: Path, json_path: Path | None, open_route: Callable[[], LocalRoute]
) -> int:
    """Compare transcripts of a folder's recordings with another's annotations; return 0, or 1 if any file failed.

    Args:
        audio_dir: recordings.
        annotation_dir: annotations; may be the same folder.
        json_path: where all figures are written too; None: nowhere.
        open_route: loads the model.

    Raises:
        ServeAppError: nothing can be compared; says why.
    """
    pairing = pair_files(audio_dir, annotation_dir)
    if not pairing.pairs:
        raise InvalidRequest(
            f"no file of {annotation_dir} is named like one of {audio_dir}, e.g. {pairing.audio_alone[0].name} and "
            f"{pairing.annotations_alone[0].name}: give them the same names"
        )
    if json_path is not None and not json_path.expanduser().parent.is_dir():
        raise InvalidRequest(f"--json {json_path}: its folder does not exist")
    console, errors = Console(), Console(stderr=True)
    route = open_route()
    scores: list[FileScore] = []
    failures: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    with FilesBar(errors, len(pairing.pairs)) as bar:
        for recording, written in pairing.pairs:
            bar.begin(recording)
            try:
                annotation = read_annotation(written)
                transcript = route.hear(recording, bar.move)
            except (ServeAppError, OSError) as error:
                failures[recording.name] = sentence(error)
                bar.say(f"[red]{escape(shown(f'{recording.name}: {failures[recording.name]}'))}[/red]")
            else:
                left_out.update(annotation.left_out)
                scores.append(
                    score_file(recording.name, annotation.times_s, transcript.hits, uncertain_s=annotation.uncertain_s)
                )
            bar.end()
    evaluation = evaluate(scores)
    _tell_alone(errors, pairing)
    if left_out:
        told = ", ".join(f"{label} ({count})" for label, count in left_out.most_common())
        errors.print(f"Labels that are none of our drums, left out: {escape(shown(told))}", highlight=False)
    if scores:
        console.print(_table(evaluation, len(scores), route.model_version))
    if json_path is not None:
        document = _document(evaluation, scores, failures, pairing, left_out, route.model_version)
        json_path.expanduser().write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 1 if failures else 0


def _table(evaluation: Evaluation, num_files: int, model_version: str) -> Table:
    """Return the figures; narrow enough for 80 columns."""
    offsets = ", ".join(
        f"{drum} {offset_ms:+.1f} ms" for drum, offset_ms in evaluation.offset_ms.items() if offset_ms is not None
    )
    table = Table(
        title=escape(f"{model_version}, {num_files} files"),
        caption="P, R, F in percent; macro: mean over the files in which the drum is annotated or found."
        + (f" Median of hit minus annotation: {offsets}." if offsets else ""),
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("drum")
    for name in ("true", "found", "ms", "pooled\nP", "\nR", "\nF", "macro\nP", "\nR", "\nF", "files"):
        table.add_column(name, justify="right", no_wrap=True)
    windows_s = list(evaluation.figures)
    for drum in evaluation.figures[windows_s[0]]:
        for number, window_s in enumerate(windows_s):
            figures = evaluation.figures[window_s][drum]
            counts = (str(figures.counts.num_annotated), str(figures.counts.num_found))
            table.add_row(
                *((drum, *counts) if number == 0 else ("", "", "")),
                f"{1000 * window_s:.0f}",
                *_percents(figures.pooled),
                *_percents(figures.macro),
                str(figures.num_files),
                end_section=number == len(windows_s) - 1,
            )
    return table


def _percents(score: Score) -> Sequence[str]:
    return ["–" if value is None else f"{100 * value:.1f}" for value in (score.precision, score.recall, score.f)]


def _tell_alone(console: Console, pairing: Pairing) -> None:
    for what, paths in (
        ("recordings without an annotation", pairing.audio_alone),
        ("annotations without a recording", pairing.annotations_alone),
    ):
        if paths:
            names = ", ".join(path.name for path in paths[:_MAX_SHOWN]) + (", …" if len(paths) > _MAX_SHOWN else "")
            console.print(f"{len(paths)} {what}, left out: {escape(shown(names))}", highlight=False, soft_wrap=True)


def _document(
    evaluation: Evaluation,
    scores: Sequence[FileScore],
    failures: dict[str, str],
    pairing: Pairing,
    left_out: Counter[str],
    model_version: str,
) -> dict[str, Any]:
    annotations = {recording.name: annotation.name for recording, annotation in pairing.pairs}
    return {
        "model_version": model_version,
        "windows": {
            _window(window_s): {drum: _figures(figures) for drum, figures in by_drum.items()}
            for window_s, by_drum in evaluation.figures.items()
        },
        "median_offset_ms": {str(drum): offset_ms for drum, offset_ms in evaluation.offset_ms.items()},
        "files": [
            {
                "file": score.name,
                "annotation": annotations[score.name],
                "windows": {
                    _window(window_s): {
                        str(drum): asdict(counts) | asdict(Score.of(counts)) for drum, counts in by_drum.items()
                    }
                    for window_s, by_drum in score.counts.items()
                },
            }
            for score in scores
        ],
        "failed": failures,
        "audio_without_annotation": [path.name for path in pairing.audio_alone],
        "annotations_without_audio": [path.name for path in pairing.annotations_alone],
        "labels_left_out": dict(left_out),
    }


def _figures(figures: DrumFigures) -> dict[str, Any]:
    return {
        **asdict(figures.counts),
        "pooled": asdict(figures.pooled),
        "macro": asdict(figures.macro),
        "num_files": figures.num_files,
    }


def _window(window_s: float) -> str:
    return f"{1000 * window_s:.0f} ms"
