"""Everything that was noted in a burst: as tables, as a file, and what broke."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loadtests.burst.clients import Submission
from loadtests.burst.faults import Fault
from loadtests.burst.poison import Poison
from loadtests.burst.processes import Seen
from loadtests.burst.servers import NotedCallbacks
from loadtests.burst.verdict import honest_problems, memory_problems, met, poison_problem, refused_submissions
from loadtests.images.figures import percentile
from loadtests.images.inputs import machine

_STAYING = {"Ingress", "JobRunner", "AudioAnalyzer", "FasterWhisper", "Diarizer", "Captioner", "MusicGenerator"}
_UNTIL_END_S = 5.0  # a replica that was seen so late had not ended


@dataclass(frozen=True, slots=True)
class Row:
    """An honest job.

    Attributes:
        job: it.
        end_s: when its last callback came, seconds of `time.monotonic`; None: it did not come.
        met: names of the faults in its life.
        wrong: what is wrong with it.
    """

    job: Submission
    end_s: float | None
    met: Sequence[str]
    wrong: Sequence[str]

    @property
    def waited_s(self) -> float | None:
        """From the first try to the last callback."""
        return None if self.end_s is None or self.job.submitted_s is None else self.end_s - self.job.submitted_s


@dataclass(frozen=True, slots=True)
class Record:
    """What was noted; times are seconds of `time.monotonic`.

    Attributes:
        began_s, over_s: of the burst, with the wait behind it.
        jobs: every submission.
        faults: that were made.
        references: result of each clip before the burst.
        receiver: of honest jobs' callbacks.
        seen: processes of the graph.
        before_mb: each deployment's peak of memory with honest jobs only.
        poison: files made to hurt.
        left_out: what could not be made here, and why.
        max_growth_mb, max_other_mb: see `memory_problems`.
    """

    began_s: float
    over_s: float
    jobs: Sequence[Submission]
    faults: Sequence[Fault]
    references: Mapping[str, Any]
    receiver: NotedCallbacks
    seen: Sequence[Seen]
    before_mb: Mapping[str, float]
    poison: Sequence[Poison]
    left_out: Sequence[str]
    max_growth_mb: float
    max_other_mb: float

    def of(self, group: str) -> list[Submission]:
        """Return a group's submissions in the order of their first tries."""
        return sorted((job for job in self.jobs if job.group == group), key=lambda job: job.submitted_s or 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        jobs = [
            dataclasses.asdict(dataclasses.replace(job, body={}))
            | {"arrivals": [dataclasses.asdict(each) for each in self.receiver.of(job.job_id)]}
            for job in self.jobs
        ]
        faults = [
            {name: getattr(fault, name) for name in ("name", "began_s", "ended_s", "told")} for fault in self.faults
        ]
        kept = ("began_s", "over_s", "references", "before_mb", "left_out", "max_growth_mb", "max_other_mb")
        values = {name: getattr(self, name) for name in kept}
        seen = [dataclasses.asdict(each) for each in self.seen]
        return {"machine": machine(), **values, "faults": faults, "jobs": jobs, "processes": seen}


def report(record: Record) -> list[str]:
    """Print the tables; return every promise that did not hold."""
    return [*_honest(record), *_others(record), *_refusals(record), *_processes(record), *_faults(record)]


def _honest(record: Record) -> list[str]:
    spans = [
        (fault.name, fault.began_s, fault.ended_s or fault.began_s)
        for fault in record.faults
        if fault.began_s is not None
    ]
    spans += [
        ("dripping server", job.accepted_s, job.accepted_s + (_in_service_s(job) or record.over_s - job.accepted_s))
        for job in record.of("dripping server")
        if job.accepted_s is not None
    ]
    rows, num_again = [], 0
    for job in record.of("honest"):
        arrivals = record.receiver.of(job.job_id)
        wrong, again = honest_problems(job, arrivals, record.faults, record.references[job.what])
        end_s = record.receiver.ended_at_s(job.job_id)
        num_again += again
        rows.append(Row(job, end_s, met(job, end_s, spans), wrong))
    print("\n".join(["", *honest_table(rows, record.began_s), "", *waits_table(rows), ""]))
    print(f"{num_again} callbacks came again because of a fault, with the webhook-id of the first")
    return [f"honest {row.job.what} {row.job.job_id}: {each}" for row in rows for each in row.wrong]


def _others(record: Record) -> list[str]:
    problems = []
    print("\n| job that is no honest one | way | end | after, s |\n| --- | --- | --- | --- |")
    for job in record.of("silent receiver"):
        _print_end(job, "silent receiver")
        if job.end != "completed":
            problems.append(f"{job.what} for a silent receiver ended as {job.end}: {job.view.get('error_message')}")
    for job in record.of("dripping server"):
        _print_end(job, "dripping server")
        if job.end != "DOWNLOAD_ERROR":
            problems.append(f"{job.what} ended as {job.end}, not as DOWNLOAD_ERROR")
    poison = {each.name: each for each in record.poison}
    for job in record.of("poison"):
        _print_end(job, poison[job.what].way)
        problem = poison_problem(job, poison[job.what])
        problems += [problem] if problem else []
    return problems


def _refusals(record: Record) -> list[str]:
    pictures = record.of("honest picture")
    took_s = [job.accepted_s - job.submitted_s for job in pictures if job.accepted_s and job.submitted_s]
    print(
        f"\n{len(took_s)} of {len(pictures)} honest pictures answered, the slowest after {max(took_s, default=0):.1f} s"
    )
    jobs = [*record.of("honest"), *pictures, *record.of("silent receiver")]
    problems, counts = refused_submissions(jobs, record.faults)
    print(f"tries of honest clients that were not accepted: {dict(counts)}")
    return problems + [f"an honest picture was never answered: {job.end}" for job in pictures if job.accepted_s is None]


def _processes(record: Record) -> list[str]:
    print("\n".join(["", *memory_table(record.seen, record.before_mb), ""]))
    killed = {fault.told for fault in record.faults}
    lost = [
        each
        for each in record.seen
        if each.is_replica and each.name in _STAYING and each.last_s < record.over_s - _UNTIL_END_S
    ]
    problems = memory_problems(record.seen, record.before_mb, record.max_growth_mb, record.max_other_mb)
    return problems + [
        f"{each.name} ({each.pid}) ended after {each.last_s - record.began_s:.0f} s, and nobody had killed it"
        for each in lost
        if f"process {each.pid}" not in killed
    ]


def _faults(record: Record) -> list[str]:
    for each in record.left_out:
        print(f"left out: {each}")
    return [f"{fault.name} could not be made: {fault.told}" for fault in record.faults if "Traceback" in fault.told]


def _in_service_s(job: Submission) -> float | None:
    """Return the seconds between a job's creation and its end, as the service says."""
    created, completed = job.view.get("created_at"), job.view.get("completed_at")
    if not created or not completed:
        return None
    return (datetime.fromisoformat(completed) - datetime.fromisoformat(created)).total_seconds()


def _print_end(job: Submission, way: str) -> None:
    seconds = _in_service_s(job)
    text = str(job.view.get("error_message") or "")[:100]
    print(f"| {job.what} | {way} | {job.end} {text} | {'' if seconds is None else f'{seconds:.1f}'} |")


def memory_table(seen: Sequence[Seen], before_mb: Mapping[str, float]) -> list[str]:
    """Return each deployment's peaks, and the largest of the other processes, as lines of Markdown."""
    lines = ["| process | peak before the burst, MB | peak, MB |", "| --- | --- | --- |"]
    others: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for each in seen:
        group = peaks if each.is_replica else others
        group[each.name] = max(group.get(each.name, 0.0), each.peak_mb)
    for name, peak_mb in sorted(peaks.items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {before_mb.get(name, 0.0):.0f} | {peak_mb:.0f} |")
    for name, peak_mb in sorted(others.items(), key=lambda item: -item[1])[:5]:
        lines.append(f"| {name} | | {peak_mb:.0f} |")
    return lines


def honest_table(rows: Sequence[Row], began_s: float) -> list[str]:
    """Return each honest job as a line of Markdown; `began_s` is the burst's beginning."""
    lines = [
        "| job | submitted at, s | accepted after, s | waited, s | tries | end | met | wrong |",
        "|" + " --- |" * 8,
    ]
    for row in rows:
        job, submitted_s = row.job, row.job.submitted_s or began_s
        accepted = "" if job.accepted_s is None else f"{job.accepted_s - submitted_s:.1f}"
        waited = "" if row.waited_s is None else f"{row.waited_s:.1f}"
        tries = len(job.refusals) + (job.accepted_s is not None)
        lines.append(
            f"| {job.what} | {submitted_s - began_s:.1f} | {accepted} | {waited} | {tries} | {job.end} | "
            f"{', '.join(row.met)} | {'; '.join(row.wrong[:1])} |"
        )
    return lines


def waits_table(rows: Sequence[Row]) -> list[str]:
    """Return the waits of the jobs that met nothing, and of those that met each fault, as lines of Markdown."""
    waits: dict[str, list[float]] = {"nothing": []}
    for row in rows:
        if row.waited_s is not None:
            for name in row.met or ["nothing"]:
                waits.setdefault(name, []).append(row.waited_s)
    waits["all jobs"] = [row.waited_s for row in rows if row.waited_s is not None]
    lines = ["| met | jobs | p50, s | p95, s | longest, s |", "| --- | --- | --- | --- | --- |"]
    for name, seconds in waits.items():
        if seconds:
            p50, p95 = statistics.median(seconds), percentile(seconds, 95)
            lines.append(f"| {name} | {len(seconds)} | {p50:.1f} | {p95:.1f} | {max(seconds):.1f} |")
    return lines
