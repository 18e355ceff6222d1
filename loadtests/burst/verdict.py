"""What the burst showed: tables, and every promise that did not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.burst.clients import Submission
from loadtests.burst.faults import INGRESS_KILLED, Fault
from loadtests.burst.poison import Poison, Way
from loadtests.burst.processes import Seen
from loadtests.burst.results import comparable, differences
from loadtests.burst.servers import Arrival

_REPEAT_S = 60.0  # after a fault: the lease of a delivery (30 s), and the start of another courier
_GATEWAY_S = 60.0  # after the ingress was killed: its replacement starts meanwhile
_NUM_SHOWN = 3


def met(job: Submission, end_s: float | None, spans: Sequence[tuple[str, float, float]]) -> list[str]:
    """Return the names of the spans that a job's life has a part in."""
    if job.submitted_s is None:
        return []
    last_s = float("inf") if end_s is None else end_s
    return [name for name, began_s, over_s in spans if began_s <= last_s and over_s >= job.submitted_s]


def callback_faults(arrivals: Sequence[Arrival], faults: Sequence[Fault]) -> tuple[list[str], int]:
    """Return what is wrong with a job's callbacks, and how many came again because of a fault."""
    firsts: dict[str, Arrival] = {}
    problems: list[str] = []
    num_again = 0
    for arrival in arrivals:
        first = firsts.setdefault(arrival.webhook_id, arrival)
        if first is arrival:
            continue
        if any(
            fault.repeats
            and fault.began_s is not None
            and fault.began_s - 1 <= arrival.at_s
            and first.at_s <= (fault.ended_s or fault.began_s) + _REPEAT_S
            for fault in faults
        ):
            num_again += 1
        else:
            problems.append(f"event {arrival.sequence} came again, and no fault explains it")
    sequence = [each.sequence for each in firsts.values()]
    if sequence != list(range(1, len(sequence) + 1)):
        problems.append(f"its events came as {sequence}")
    progress = [each.progress for each in firsts.values() if each.progress is not None]
    if progress != sorted(set(progress)):
        problems.append(f"its progress came as {progress}")
    ends = [each.status for each in firsts.values() if each.status != "processing"]
    if ends != ["completed"]:
        problems.append(f"its ends were {ends}")
    return problems, num_again


def honest_problems(
    job: Submission, arrivals: Sequence[Arrival], faults: Sequence[Fault], reference: Mapping[str, Any]
) -> tuple[list[str], int]:
    """Return what is wrong with an honest job, and how many of its callbacks came again because of a fault."""
    problems, num_again = callback_faults(arrivals, faults)
    if job.end != "completed":
        problems.insert(0, f"it ended as {job.end}: {job.view.get('error_message', '')}")
    else:
        told = differences(comparable(job.view.get("result"), job.job_id), reference)
        problems += [f"another result than before the burst: {each}" for each in told[:_NUM_SHOWN]]
    return problems, num_again


def poison_problem(job: Submission, poison: Poison) -> str | None:
    """Return what is wrong with the end of a file made to hurt; None if nothing is."""
    if poison.way in (Way.PICTURE, Way.MUSIC_UPLOAD) and job.end in ("HTTP 400", "HTTP 413", "HTTP 422"):
        return None
    if job.end not in poison.ends:
        return f"{job.what} ended as {job.end}, not as a refusal or one of {sorted(poison.ends)}"
    duration_s = (job.view.get("result") or {}).get("duration", 0.0)
    if poison.way is Way.VIDEO_JOB and job.end == "completed" and duration_s > poison.longest_s:
        return f"{job.what} became {duration_s:.0f} s of sound"
    return None


def refused_submissions(jobs: Sequence[Submission], faults: Sequence[Fault]) -> tuple[list[str], Counter[str]]:
    """Return the answers that no honest client may get, and all that were no acceptance, counted.

    A 502 or 504 that the proxy gives for a killed ingress has no body of ours; it is counted, and no failure.
    """
    kills = [fault.began_s for fault in faults if fault.name == INGRESS_KILLED and fault.began_s is not None]
    problems: list[str] = []
    counts: Counter[str] = Counter()
    for job in jobs:
        for refusal in job.refusals:
            name = str(refusal.status) if refusal.status else refusal.text.partition("(")[0]
            by_proxy = refusal.status in (502, 504) and "request_id" not in refusal.text
            if by_proxy and any(kill_s - 5 <= refusal.at_s <= kill_s + _GATEWAY_S for kill_s in kills):
                name = f"{name} by the proxy after the kill"
            elif refusal.status and refusal.status not in (429, 503):
                problems.append(f"{job.group} {job.what} was answered {refusal.status}: {refusal.text[:200]}")
            counts[name] += 1
    return problems, counts


def memory_problems(
    seen: Sequence[Seen], before_mb: Mapping[str, float], max_growth_mb: float, max_other_mb: float
) -> list[str]:
    """Return the processes that took more than they may.

    Args:
        seen: all of the graph's processes.
        before_mb: each deployment's peak with honest jobs only.
        max_growth_mb: that a replica's peak may grow by beyond that.
        max_other_mb: of any other process of the graph.
    """
    problems = []
    for each in seen:
        limit_mb = before_mb.get(each.name, 0.0) + max_growth_mb if each.is_replica else max_other_mb
        if each.peak_mb > limit_mb:
            problems.append(f"{each.name} ({each.pid}) took {each.peak_mb:.0f} MB, {limit_mb:.0f} allowed")
    return problems
