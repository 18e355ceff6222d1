"""Ten minutes with everything at once: `python -m loadtests.burst_of_faults [--minutes 10] [--json FILE]`.

A real graph of configs/local.yaml with two runners, a real Postgres, a state folder on a small disk. Honest jobs of
video and music arrive at a steady rate, each with callbacks. Among them come files made to hurt, jobs whose receivers
never answer, and jobs whose file servers drip. Meanwhile the disk is full, Postgres hangs, a runner is killed, Postgres
is away, and the ingress is killed. Prints what each honest job waited. The exit status is 0 only if each honest job
ended with the result that its clip had before, told once and in order, and nothing else that was promised broke.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.burst import faults as happenings
from loadtests.burst.clients import Clients, Submission
from loadtests.burst.disk import MountRefused, SmallDisk
from loadtests.burst.faults import Moment
from loadtests.burst.orders import (
    Clip,
    make_clips,
    picture_submission,
    poison_submission,
    small_jpeg,
    submission,
    visitor_cookies,
    write_graph_config,
)
from loadtests.burst.poison import Poison, poison_files
from loadtests.burst.postgres import Postgres
from loadtests.burst.processes import ProcessWatch
from loadtests.burst.report import Record, report
from loadtests.burst.results import comparable, differences
from loadtests.burst.servers import DrippingServer, NotedCallbacks, SilentServer
from loadtests.images.inputs import machine
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import FileServer

_READY_S, _ALONE_S = 600.0, 300.0
_LAST_CALLBACK_S = 2.0  # and for one too many


class Burst:
    """One run; everything that it starts ends with the stack.

    Args:
        arguments: of the command line.
        stack: undoes what was done.
    """

    def __init__(self, arguments: argparse.Namespace, stack: ExitStack) -> None:
        self._arguments = arguments
        self._folder = Path(tempfile.mkdtemp(prefix="sa-"))
        stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._left_out: list[str] = []
        self._disk = self._small_disk(stack)
        self._postgres = stack.enter_context(Postgres())
        served = self._folder / "served"
        served.mkdir()
        self._files_url = stack.enter_context(FileServer(served)).base_url
        self._receiver = stack.enter_context(NotedCallbacks())
        self._silent = [
            stack.enter_context(SilentServer(f"127.0.1.{number + 1}")) for number in range(arguments.silent)
        ]
        self._drips = [
            stack.enter_context(DrippingServer(f"127.0.2.{number + 1}")) for number in range(arguments.drips)
        ]
        self._clips = make_clips(served, self._files_url, arguments.clip_s)
        self._poison = self._written_poison(served)
        self._graph = self._started_graph(stack)
        self._watch = stack.enter_context(ProcessWatch(self._graph.pid))
        self._clients = Clients(self._graph.base_url, visitor_cookies(self._graph.base_url))
        stack.callback(self._clients.stop)
        self._references: dict[str, Any] = {}
        self._jobs: list[Submission] = []

    def _small_disk(self, stack: ExitStack) -> SmallDisk | None:
        try:
            return stack.enter_context(SmallDisk(self._folder / "disk", self._arguments.disk_mb))
        except MountRefused as error:
            self._left_out.append(f"disk full: {error}")
            return None

    def _written_poison(self, served: Path) -> list[Poison]:
        chosen = poison_files(self._arguments.side_px)[: self._arguments.poison]
        for poison in chosen:
            if poison.make is not None:
                (served / poison.name).write_bytes(poison.make())
        return chosen

    def _started_graph(self, stack: ExitStack) -> LocalGraph:
        config = write_graph_config(self._folder / "graph.yaml", num_runners=2)
        environment = {
            "SERVE_APP_ALLOWED_HOSTS": "127.0.0.0/8",
            "SERVE_APP_DATABASE_URL": self._postgres.url,
            "SERVE_APP_STATE_DIR": str(self._folder / ("disk" if self._disk else ".") / "state"),
            "SERVE_APP_MAX_PIECES_IN_WORK": "1000",  # one visitor orders all music
            "SERVE_APP_MAX_PIECES_PER_HOUR": "10000",
        }
        if self._arguments.download_timeout_s:
            environment["SERVE_APP_DOWNLOAD_TIMEOUT_S"] = str(self._arguments.download_timeout_s)
        graph = LocalGraph(config, self._folder / "g", environment)
        if self._arguments.keep_log:
            stack.callback(lambda: shutil.copy(graph.log_path, self._arguments.keep_log))
        stack.enter_context(graph)
        print(f"ready after {graph.wait_until_ready(_READY_S):.1f} s", flush=True)
        return graph

    def alone(self) -> list[str]:
        """Run each clip twice alone: the second is the reference. Return where the two differ."""
        told = []
        for clip in self._clips:
            results, took_s = [], []
            for _ in range(2):
                job = submission(clip, "alone", self._receiver.base_url)
                self._clients.submit(job).join()
                self._wait_for([job], _ALONE_S)
                if job.end != "completed":
                    raise RuntimeError(f"{clip.name} alone ended as {job.end}: {job.view} {job.refusals[-1:]}")
                results.append(comparable(job.view["result"], job.job_id))
                end_s = self._receiver.ended_at_s(job.job_id)
                took_s.append((end_s or time.monotonic()) - (job.submitted_s or 0.0))
            self._references[clip.name] = results[-1]
            told += [f"{clip.name} twice alone: {each}" for each in differences(*results)[:3]]
            print(f"{clip.name} alone: {took_s[0]:.1f} s, then {took_s[1]:.1f} s", flush=True)
        picture = picture_submission("picture.jpg", "alone", small_jpeg())
        self._clients.submit(picture).join(_ALONE_S)
        self._before_mb = self._watch.peaks_mb()
        return told

    def run(self) -> Record:
        """Let everything happen, wait until all jobs have ended, or long enough, and return what was noted."""
        arguments, seconds = self._arguments, 60 * self._arguments.minutes
        self._jobs.clear()
        faults = [
            fault
            for fault in happenings.planned_faults(self._graph, self._postgres, self._disk)
            if fault.name in arguments.faults
        ]
        moments = self._moments(seconds)
        began_s = time.monotonic()
        happenings.run(faults, moments, seconds)
        print(f"the burst is over; waiting for {sum(not self._clients.look_at(job) for job in self._jobs)} jobs")
        self._wait_for(self._jobs, 60 * arguments.drain_minutes)
        time.sleep(_LAST_CALLBACK_S)
        return Record(
            began_s,
            time.monotonic(),
            self._jobs,
            faults,
            self._references,
            self._receiver,
            self._watch.seen(),
            self._before_mb,
            self._poison,
            self._left_out,
            arguments.max_growth_mb,
            arguments.max_other_mb,
        )

    def _moments(self, seconds: float) -> list[Moment]:
        """Return every submission: honest ones at a steady rate, the others in between."""
        honest = [self._clips[number % len(self._clips)] for number in range(int(seconds / self._arguments.every_s))]
        orders = [submission(clip, "honest", self._receiver.base_url) for clip in honest]
        moments = self._spread(0.0, 1.0, orders)
        num_pictures = int(seconds / self._arguments.picture_every_s)
        picture = small_jpeg()
        pictures = [picture_submission("picture.jpg", "honest picture", picture) for _ in range(num_pictures)]
        moments += self._spread(0.005, 1.0, pictures)
        videos = [clip for clip in self._clips if clip.url is not None]
        silent = [
            submission(videos[number % len(videos)], "silent receiver", server.base_url)
            for number, server in enumerate(self._silent)
        ]
        moments += self._spread(0.02, 0.92, silent)
        drips = [
            submission(Clip(f"drip-{number}", f"{server.base_url}/video.mp4"), "dripping server", None)
            for number, server in enumerate(self._drips)
        ]
        moments += self._spread(0.05, 0.85, drips)
        return moments + self._spread(0.01, 0.91, [poison_submission(each, self._files_url) for each in self._poison])

    def _spread(self, first: float, last: float, orders: Sequence[Submission]) -> list[Moment]:
        """Return moments at equal distances, from `first` to before `last`."""
        step = (last - first) / max(len(orders), 1)
        return [Moment(first + number * step, partial(self._begin, order)) for number, order in enumerate(orders)]

    def _begin(self, job: Submission) -> None:
        self._jobs.append(job)
        self._clients.submit(job)

    def _wait_for(self, jobs: Sequence[Submission], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while jobs and time.monotonic() < deadline_s:
            jobs = [job for job in jobs if not self._clients.look_at(job)]
            time.sleep(0.5)


def main() -> None:
    """Run it and print what broke."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.burst_of_faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of the burst; each fault of a minute has a tenth")
    parser.add_argument("--drain-minutes", type=float, default=10.0, help="that jobs may take after it")
    parser.add_argument("--every-s", type=float, default=8.0, help="an honest job arrives so often")
    parser.add_argument("--picture-every-s", type=float, default=5.0, help="an honest picture arrives so often")
    parser.add_argument("--clip-s", type=float, default=10.0, help="length of the honest videos, 5 to 14 s")
    parser.add_argument("--poison", type=int, default=20, help="how many files made to hurt")
    parser.add_argument("--side-px", type=int, default=16_368, help="of the pictures in them")
    parser.add_argument("--silent", type=int, default=10, help="receivers that never answer")
    parser.add_argument("--drips", type=int, default=3, help="file servers that drip")
    parser.add_argument("--faults", nargs="*", choices=happenings.NAMES, default=list(happenings.NAMES))
    parser.add_argument("--disk-mb", type=int, default=256)
    parser.add_argument("--max-growth-mb", type=float, default=700.0, help="of a replica's peak memory")
    parser.add_argument("--max-other-mb", type=float, default=1500.0, help="of any other process of the graph")
    parser.add_argument("--download-timeout-s", type=float, help="SERVE_APP_DOWNLOAD_TIMEOUT_S, for short trials")
    parser.add_argument("--json", type=Path, help="file for everything that was noted")
    parser.add_argument("--keep-log", type=Path, help="file for the graph's log")
    arguments = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM):  # so that the stack is unwound
        signal.signal(each, lambda number, frame: sys.exit(128 + number))
    print(f"{time.strftime('%F %H:%M')}, {machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    with ExitStack() as stack:
        burst = Burst(arguments, stack)
        told_alone = burst.alone()
        record = burst.run()
        if arguments.json:
            arguments.json.write_text(json.dumps(record.to_json(), indent=1))
        problems = [*told_alone, *report(record)]
    print(f"{len(problems)} promises broken" if problems else "every promise held")
    for problem in problems:
        print(f"  • {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
