"""`serve-app demo`: three real video jobs and a piece of music, each to its last callback, shown and checked."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.client import Client
from serve_app.commands.demo.callbacks import show_callbacks
from serve_app.commands.demo.contract import callback_problems
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.music import frame_of, music_job
from serve_app.commands.demo.receiver import CallbackReceiver, FileServer
from serve_app.commands.demo.videos import DemoVideo, demo_videos
from serve_app.commands.terminal import echo
from serve_app.scoring import count_letter_errors, score_result
from serve_app.settings import Settings

_READY_TIMEOUT_S = 180.0


def show(arguments: argparse.Namespace) -> int:
    """Run the demonstration; return 0 if every callback and every result met the contract."""
    config, keep = arguments.config, arguments.keep
    console = Console()
    if not config.exists():
        console.print(f"[red]{escape(str(config))} is not there[/]: run this in the project's folder, or use --config")
        return 2
    with ExitStack() as stack:
        folder = keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True))
        )
        served = folder / "videos"
        served.mkdir(parents=True, exist_ok=True)
        videos = demo_videos(served)
        receiver = stack.enter_context(CallbackReceiver())
        files = stack.enter_context(FileServer(served))
        # Ray's sockets need a short path, whatever folder the results go to
        ray_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True)))
        # the address guard refuses private addresses: this machine's own is allowed here, and only here
        environment = {"SERVE_APP_ALLOWED_HOSTS": "127.0.0.1", "SERVE_APP_LOCALE": "ko"}
        graph = stack.enter_context(LocalGraph(config, ray_folder, environment))
        console.print(f"Starting the graph of {escape(str(config))} on {graph.base_url} …")
        try:
            ready_s = graph.wait_until_ready(_READY_TIMEOUT_S)
        except RuntimeError as error:
            console.print(f"[red]{escape(str(error))}[/]")
            return 1
        console.print(f"Ready after {ready_s:.1f} s: {graph.base_url}/docs\n")
        if keep:
            stack.callback(lambda: shutil.copy(graph.log_path, folder / "serve.log"))
        client = stack.enter_context(Client(graph.base_url))
        problems: list[str] = []
        for video in videos:
            problems += _one_job(console, client, receiver, f"{files.base_url}/{video.path.name}", video, folder)
        # somebody wants to hear it after the demo has ended
        to_hear = keep or Settings.from_environment().state_dir / "demo"
        to_hear.mkdir(parents=True, exist_ok=True)
        problems += music_job(console, client, receiver, frame_of(videos[0].path, served / "frame.jpg"), to_hear)
    if problems:
        console.print("[red]The contract was not met:[/]")
        for problem in problems:
            console.print(f"  • {escape(problem)}")
        return 1
    console.print("[green]All jobs met the contract: every stage in order, and results with every field.[/]")
    return 0


def _one_job(
    console: Console, client: Client, receiver: CallbackReceiver, url: str, video: DemoVideo, folder: Path
) -> list[str]:
    """Run one job and show it; return its problems."""
    job_id = str(uuid.uuid4())
    console.rule(escape(video.title))
    started = time.monotonic()
    accepted = client.submit(
        url, job_id=job_id, fastapi_base_url=receiver.base_url, language=video.language, num_speakers=video.num_speakers
    )
    echo(console, f"POST /api/upload-video/process-video → {json.dumps(accepted, ensure_ascii=False)}")
    try:
        payloads = show_callbacks(console, receiver, job_id, started)
    except TimeoutError as error:
        return [str(error)]
    problems = [f"{video.path.name}: {problem}" for problem in callback_problems(payloads, job_id)]
    result = payloads[-1].get("result")
    if result is None:
        return problems
    (folder / f"{video.path.stem}.result.json").write_text(json.dumps(result, ensure_ascii=False, indent=1))
    if client.get(job_id).get("result") != result:
        problems.append(f"{video.path.name}: GET /jobs/{job_id} shows another result than the callback")
    _show_result(console, result)
    if video.truth is not None:
        scores = score_result(result, video.truth)
        echo(
            console,
            f"Against the truth ({scores.num_words} words): word error rate {scores.word_error_rate:.1%}, "
            f"words with the wrong speaker {scores.word_speaker_error_rate:.1%}, "
            f"median error of word starts {scores.median_word_start_error_s * 1000:.0f} ms",
        )
    if video.text is not None:
        num_errors, num_letters = count_letter_errors(video.text, result["text"])
        echo(console, f"Against the truth ({num_letters} letters): letter error rate {num_errors / num_letters:.1%}")
    return problems


def _show_result(console: Console, result: dict[str, Any]) -> None:
    table = Table("from", "to", "speaker", "text", title="Who said what, and when", title_justify="left")
    for segment in result["segments"]:
        speaker = segment["speaker"]["speaker_id"]
        table.add_row(f"{segment['start_time']:.2f}", f"{segment['end_time']:.2f}", speaker, escape(segment["text"]))
    console.print(table)
    metadata = result["metadata"]
    seconds = ", ".join(f"{stage} {value:.2f}" for stage, value in metadata["stage_seconds"].items())
    console.print(
        f"{result['duration']:.1f} s of audio in {metadata['processing_time']:.1f} s; seconds by stage: {seconds}"
    )
    console.print(f"Transcribed by {metadata['model_version']}; language {result['language']}")
    echo(console, *(f"Note: {note}" for note in metadata["notes"]))
