"""`serve-app drums-eval`: transcripts against manual annotations, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve_app.commands.drums.routes import LocalRoute
from serve_app.commands.each_file import OnProgress, for_each
from serve_app.commands.terminal import echo
from serve_app.errors import InvalidRequest
from serve_app.models.drums.annotations import pair_files, read_annotation
from serve_app.models.drums.evaluation import Evaluation, FileScore, Score, evaluate, score_file
from serve_app.models.drums.transcription import transcribe_drums

_MAX_NAMES = 10


def evaluate_folders(arguments: argparse.Namespace) -> int:
    """Compare transcripts of a folder's recordings with another's annotations; return 0, or 1 if any file failed."""
    json_path = arguments.json.expanduser() if arguments.json else None
    pairing = pair_files(arguments.audio_dir, arguments.annotation_dir)
    if not pairing.pairs:
        raise InvalidRequest(
            f"no file of {arguments.annotation_dir} is named like one of {arguments.audio_dir}, e.g. "
            f"{pairing.audio_alone[0].name} and {pairing.annotations_alone[0].name}: give them the same names"
        )
    if json_path and not json_path.parent.is_dir():
        raise InvalidRequest(f"--json {json_path}: its folder does not exist")
    console = Console(stderr=True)
    route = LocalRoute(arguments)
    version = route.loaded.model_version
    annotations = dict(pairing.pairs)
    scores: list[FileScore] = []
    left_out: Counter[str] = Counter()

    def compare(recording: Path, on_progress: OnProgress) -> None:
        annotation = read_annotation(annotations[recording])
        hits = transcribe_drums(recording, route.loaded, route.config, on_progress=on_progress).transcript.hits
        left_out.update(annotation.left_out)
        scores.append(score_file(recording.name, annotation.times_s, hits, uncertain_s=annotation.uncertain_s))

    failures = for_each(list(annotations), compare, console)
    evaluation = evaluate(scores)
    for what, paths in (
        ("recordings without an annotation", pairing.audio_alone),
        ("annotations without a recording", pairing.annotations_alone),
    ):
        if paths:
            names = ", ".join(path.name for path in paths[:_MAX_NAMES]) + (", …" if len(paths) > _MAX_NAMES else "")
            echo(console, f"{len(paths)} {what}, left out: {names}")
    if left_out:
        labels = ", ".join(f"{label} ({count})" for label, count in left_out.most_common())
        echo(console, f"Left out, as these labels name no kick, snare or hi-hat: {labels}")
    if scores:
        Console().print(_table(evaluation, f"{version}, {len(scores)} files"))
    if json_path:
        document = {
            "model_version": version,
            **_figures(evaluation, scores, {recording.name: path.name for recording, path in pairing.pairs}),
            "failed": {path.name: why for path, why in failures.items()},
            "audio_without_annotation": [path.name for path in pairing.audio_alone],
            "annotations_without_audio": [path.name for path in pairing.annotations_alone],
            "labels_left_out": dict(left_out),
        }
        json_path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 1 if failures else 0


def _table(evaluation: Evaluation, title: str) -> Table:
    """Return a table of 80 columns at most."""
    offsets = ", ".join(
        f"{drum} {offset_ms:+.1f} ms" for drum, offset_ms in evaluation.offset_ms.items() if offset_ms is not None
    )
    table = Table(
        title=Text(title),
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
            scores = (figures.pooled, figures.macro)
            shares = [share for score in scores for share in (score.precision, score.recall, score.f)]
            table.add_row(
                *((drum, *counts) if number == 0 else ("", "", "")),
                f"{1000 * window_s:.0f}",
                *("–" if share is None else f"{100 * share:.1f}" for share in shares),
                str(figures.num_files),
                end_section=number == len(windows_s) - 1,
            )
    return table


def _figures(evaluation: Evaluation, scores: list[FileScore], annotations: Mapping[str, str]) -> dict[str, Any]:
    return {
        "windows": {
            _window(window_s): {
                drum: asdict(figures.counts)
                | {"pooled": asdict(figures.pooled), "macro": asdict(figures.macro), "num_files": figures.num_files}
                for drum, figures in by_drum.items()
            }
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
    }


def _window(window_s: float) -> str:
    return f"{1000 * window_s:.0f} ms"
