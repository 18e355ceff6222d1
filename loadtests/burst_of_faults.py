"""Ten minutes with everything at once: `python -m loadtests.burst_of_faults [--minutes 10] [--json FILE]`.

A real graph of configs/local.yaml with two runners, a real Postgres, a state folder on a small disk. Honest jobs of
video and music arrive at a steady rate, each with callbacks. Among them come files made to hurt, jobs whose receivers
never answer, and jobs whose file servers drip. Meanwhile the disk is full, Postgres hangs, a runner is killed, Postgres
is away, and the ingress is killed. Prints what each honest job waited. The exit status is 0 only if each honest job
ended with the result that its clip had before, told once and in order, and nothing else that was promised broke.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.burst import faults as happenings
from loadtests.burst.clients import Clients, Submission
from loadtests.burst.disk import MountRefused, SmallDisk
from loadtests.burst.faults import Fault, Moment
from loadtests.burst.honest import (
    MUSIC_PATH,
    VIDEO_PATH,
    Clip,
    make_clips,
    picture_submission,
    small_jpeg,
    submission,
    visitor_cookies,
    write_graph_config,
)
from loadtests.burst.poison import Poison, Way, poison_files
from loadtests.burst.postgres import Postgres
from loadtests.burst.processes import ProcessWatch
from loadtests.burst.results import comparable, differences
from loadtests.burst.servers import DrippingServer, NotedCallbacks, SilentServer
from loadtests.burst.verdict import (
    honest_problems,
    honest_table,
    memory_problems,
    memory_table,
    met,
    poison_problem,
    refused_submissions,
    waits_table,
)
from loadtests.images.inputs import machine
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import FileServer
from tests.integration.processes import kill, replicas

_READY_S, _ALONE_S = 300.0, 300.0
_KILL_LASTS = 0.05  # share of the time for which a job counts as having met a kill
_STAYING = {"Ingress", "JobRunner", "AudioAnalyzer", "FasterWhisper", "Diarizer", "Captioner", "MusicGenerator"}
_FAULTS = ("disk full", "Postgres hangs", "runner killed", "Postgres away", "ingress killed")


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
        self._submit_picture().join()
        self.before_mb = self._watch.peaks_mb()
        return told

    def run(self) -> None:
        """Let everything happen, and wait until all jobs have ended, or long enough."""
        seconds = 60 * self._arguments.minutes
        self.began_s = time.monotonic()
        self.faults = self._faults()
        happenings.run(self.faults, self._moments(seconds), seconds)
        self.burst_over_s = time.monotonic()
        print(f"the burst is over; waiting for {sum(not job.is_final for job in self._jobs)} jobs", flush=True)
        self._wait_for(self._jobs, 60 * self._arguments.drain_minutes)
        time.sleep(2.0)  # a last callback, and one too many
        self.over_s = time.monotonic()

    def _faults(self) -> list[Fault]:
        def kill_one(deployment: str) -> Callable[[], str]:
            def begin() -> str:
                pid = replicas(self._graph, deployment)[0]
                kill(pid)
                return f"process {pid}"

            return begin

        def full() -> str:
            assert self._disk is not None
            self._disk.fill()
            time.sleep(0.5)
            return f"{self._disk.free_bytes} bytes free"

        def said(act: Callable[[], None]) -> Callable[[], str]:
            return lambda: act() or "done"

        def nothing() -> None:
            pass

        postgres = self._postgres
        empty = self._disk.empty if self._disk else nothing
        found = [
            Fault("disk full", 0.12, 0.1, full, empty, repeats=False),
            Fault("Postgres hangs", 0.30, 0.1, said(postgres.freeze), postgres.thaw, repeats=True),
            Fault("runner killed", 0.48, _KILL_LASTS, kill_one("JobRunner"), nothing, repeats=True),
            Fault("Postgres away", 0.58, 0.1, said(postgres.stop), postgres.start, repeats=True),
            Fault("ingress killed", 0.78, _KILL_LASTS, kill_one("Ingress"), nothing, repeats=True),
        ]
        chosen = [each for each in found if each.name in self._arguments.faults]
        return [each for each in chosen if each.name != "disk full" or self._disk is not None]

    def _moments(self, seconds: float) -> list[Moment]:
        """Return every submission: honest ones at a steady rate, the others in between."""
        arguments = self._arguments
        moments = []
        num_honest = int(seconds / arguments.every_s)
        for number in range(num_honest):
            clip = self._clips[number % len(self._clips)]
            moments.append(Moment(number * arguments.every_s / seconds, self._later(clip, "honest", self._receiver)))
        num_pictures = int(seconds / arguments.picture_every_s)
        moments += [Moment((number + 0.5) / num_pictures, self._submit_picture) for number in range(num_pictures)]
        for number, silent in enumerate(self._silent):
            clip = self._clips[number % 3]
            moments.append(
                Moment(0.02 + 0.9 * number / len(self._silent), self._later(clip, "silent receiver", silent))
            )
        for number, drip in enumerate(self._drips):
            clip = Clip(f"drip-{number}", f"{drip.base_url}/video.mp4")
            moments.append(Moment(0.05 + 0.8 * number / len(self._drips), self._later(clip, "dripping server", None)))
        for number, poison in enumerate(self._poison):
            moments.append(Moment(0.01 + 0.9 * number / len(self._poison), self._later_poison(poison)))
        return moments

    def _later(self, clip: Clip, group: str, receiver: Any) -> Callable[[], object]:
        base_url = None if receiver is None else receiver.base_url
        return lambda: self._begin(submission(clip, group, base_url))

    def _later_poison(self, poison: Poison) -> Callable[[], object]:
        data = poison.make() if poison.make and poison.way in (Way.PICTURE, Way.MUSIC_UPLOAD) else b""
        url = f"{self._files_url}/{poison.name}"
        if poison.way is Way.PICTURE:
            return lambda: self._begin(picture_submission(poison.name, "poison", data))
        job_id = str(uuid.uuid4())
        if poison.way is Way.VIDEO_JOB:
            body: dict[str, Any] = {"json": {"job_id": job_id, "video_url": url, "language": "en"}}
        elif poison.way is Way.MUSIC_JOB:
            body = {"json": {"job_id": job_id, "image_url": url, "duration": 10}}
        else:
            body = {"data": {"job_id": job_id, "duration": "10"}, "files": {"file": (poison.name, data)}}
        path = VIDEO_PATH if poison.way is Way.VIDEO_JOB else MUSIC_PATH
        return lambda: self._begin(Submission(job_id, "poison", poison.name, path, body))

    def _submit_picture(self) -> threading.Thread:
        return self._begin(picture_submission("picture.jpg", "honest picture", small_jpeg()))

    def _begin(self, job: Submission) -> threading.Thread:
        self._jobs.append(job)
        return self._clients.submit(job)

    def _wait_for(self, jobs: Sequence[Submission], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            jobs = [job for job in jobs if not self._clients.look_at(job)]
            if not jobs:
                return
            time.sleep(0.5)

    def report(self, told_alone: Sequence[str]) -> list[str]:
        """Print the tables; return every promise that did not hold."""
        problems = list(told_alone)
        spans = [(fault.name, fault.began_s, fault.ended_s or fault.began_s) for fault in self.faults if fault.began_s]
        drips = [job for job in self._jobs if job.group == "dripping server"]
        spans += [("dripping server", job.accepted_s, self._end_s(job)) for job in drips if job.accepted_s]
        rows, num_again = [], 0
        for job in self._of("honest"):
            end_s = self._receiver.ended_at_s(job.job_id)
            wrong, again = honest_problems(job, self._receiver.of(job.job_id), self.faults, self._references[job.what])
            num_again += again
            rows.append((job, end_s, met(job, end_s, spans), wrong))
            problems += [f"honest {job.what} {job.job_id}: {each}" for each in wrong]
        print("\n".join(["", *honest_table(rows, self.began_s), "", *waits_table(rows), ""]))
        print(f"{num_again} callbacks came again because of a fault, with the webhook-id of the first")
        for job in self._of("silent receiver"):
            if job.end != "completed":
                problems.append(f"{job.what} for a silent receiver ended as {job.end}: {job.view.get('error_message')}")
        for job in drips:
            print(f"{job.what}: {job.end} after {self._end_s(job) - (job.submitted_s or 0.0):.0f} s")
            if job.end != "DOWNLOAD_ERROR":
                problems.append(f"{job.what} ended as {job.end}, not as DOWNLOAD_ERROR")
        poisoned = dict(zip([poison.name for poison in self._poison], self._poison, strict=True))
        print("\n| file made to hurt | way | end |\n| --- | --- | --- |")
        for job in sorted(self._of("poison"), key=lambda each: each.submitted_s or 0.0):
            print(f"| {job.what} | {poisoned[job.what].way} | {job.end} {job.view.get('error_message', '')[:100]} |")
            problem = poison_problem(job, poisoned[job.what])
            problems += [problem] if problem else []
        pictures = self._of("honest picture")
        took_s = sorted(job.accepted_s - (job.submitted_s or 0.0) for job in pictures if job.accepted_s)
        print(
            f"\n{len(took_s)} of {len(pictures)} honest pictures answered; slowest {took_s[-1] if took_s else 0:.1f} s"
        )
        refused, counts = refused_submissions(
            [*self._of("honest"), *pictures, *self._of("silent receiver")], self.faults
        )
        problems += refused
        print(f"tries of honest clients that were not accepted: {dict(counts)}")
        print("\n".join(["", *memory_table(self._watch.seen(), self.before_mb), ""]))
        problems += memory_problems(
            self._watch.seen(), self.before_mb, self._arguments.max_growth_mb, self._arguments.max_other_mb
        )
        killed = {fault.told for fault in self.faults if fault.name.endswith("killed")}
        lost = [each for each in self._watch.ended(_STAYING, self.over_s) if f"process {each.pid}" not in killed]
        problems += [f"{each.name} ({each.pid}) ended after {each.last_s - self.began_s:.0f} s" for each in lost]
        print("\n".join(f"left out: {each}" for each in self._left_out))
        return problems + [f"{fault.name} was not made: {fault.told}" for fault in self.faults if "Error" in fault.told]

    def raw(self) -> dict[str, Any]:
        """Return everything that was noted; times in seconds since the burst began."""
        jobs = [dataclasses.asdict(job) | {"body": None} for job in self._jobs]
        for job in jobs:
            job["arrivals"] = [dataclasses.asdict(each) for each in self._receiver.of(job["job_id"])]
        return {
            "machine": machine(),
            "began_s": self.began_s,
            "over_s": self.over_s,
            "faults": [
                {name: getattr(fault, name) for name in ("name", "began_s", "ended_s", "told")} for fault in self.faults
            ],
            "jobs": jobs,
            "processes": [dataclasses.asdict(each) for each in self._watch.seen()],
            "peaks_before_mb": self.before_mb,
            "references": self._references,
            "left_out": self._left_out,
        }

    def _of(self, group: str) -> list[Submission]:
        return [job for job in self._jobs if job.group == group]

    def _end_s(self, job: Submission) -> float:
        """Return when a job without a receiver ended, from the seconds that the service says; now, if it has not."""
        view, created = job.view, job.accepted_s or 0.0
        return created + view["processing_time"] if "processing_time" in view else self.over_s


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
    parser.add_argument("--faults", nargs="*", choices=_FAULTS, default=list(_FAULTS))
    parser.add_argument("--disk-mb", type=int, default=256)
    parser.add_argument("--max-growth-mb", type=float, default=700.0, help="of a replica's peak memory")
    parser.add_argument("--max-other-mb", type=float, default=1500.0, help="of any other process of the graph")
    parser.add_argument("--download-timeout-s", type=float, help="SERVE_APP_DOWNLOAD_TIMEOUT_S, for short trials")
    parser.add_argument("--json", type=Path, help="file for everything that was noted")
    parser.add_argument("--keep-log", type=Path, help="file for the graph's log")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the stack is unwound
    print(f"{time.strftime('%F %H:%M')}, {machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    with ExitStack() as stack:
        burst = Burst(arguments, stack)
        told_alone = burst.alone()
        burst.run()
        problems = burst.report(told_alone)
        if arguments.json:
            arguments.json.write_text(json.dumps(burst.raw(), indent=1))
    _print_problems(problems)
    sys.exit(1 if problems else 0)


def _print_problems(problems: Iterable[str]) -> None:
    problems = list(problems)
    print(f"{len(problems)} promises broken" if problems else "every promise held")
    for problem in problems:
        print(f"  • {problem}")


if __name__ == "__main__":
    main()
