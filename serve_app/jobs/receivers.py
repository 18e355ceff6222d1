"""`Receivers`: what a courier has learnt of the receivers of its deliveries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.jobs import retry
from serve_app.jobs.outbox import ClaimLimits, DueDelivery

# A host without any answer gets no delivery for a while, longer each time: its time-outs would take every place.
_HOST_PAUSE = retry.Backoff(first_s=1.0, cap_s=60.0, jitter=0.0)
_FORGOTTEN_S = 600.0
_MOST_NAMED = 500  # hosts or shares in one query; the latest count
_MOST_KNOWN = 5000


@dataclass(slots=True)
class _Known:
    """A host or a share.

    Attributes:
        share: of a host.
        under_way: deliveries.
        unreached: attempts in a row without an answer.
        is_good: whether the last attempt was delivered at once.
    """

    share: str
    under_way: int = 0
    unreached: int = 0
    paused_until: float = 0.0
    is_good: bool = True
    seen_at: float = 0.0


class Receivers:
    """Counts the deliveries under way, and remembers how each host and share did.

    A host that gave no answer gets none for a while, then one at a time. A share whose last attempt failed or was slow
    is suspect. Suspect deliveries have a quarter of the places, half of these for one share; long bodies have
    another quarter.

    Args:
        num_places: deliveries under way.
        per_share: most of them to one share.
        clock: monotonic seconds.
    """

    def __init__(self, num_places: int, per_share: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_places = num_places
        self._per_share = per_share
        self._clock = clock
        self._hosts: dict[str, _Known] = {}
        self._shares: dict[str, _Known] = {}
        self._suspect: Counter[str] = Counter()
        self._num_long = 0

    def under_way(self) -> dict[str, int]:
        """Return how many deliveries of each share are under way."""
        return {share: known.under_way for share, known in self._shares.items() if known.under_way}

    def limits(self) -> ClaimLimits:
        """Return what the next claim must keep to."""
        now = self._clock()
        self._forget(now)
        hosts, shares = self._hosts.items(), self._shares.items()
        suspect_shares = {share for share, known in shares if not known.is_good}
        paused = [host for host, known in hosts if now < known.paused_until or (known.unreached and known.under_way)]
        trusted = [host for host, known in hosts if known.is_good and known.share in suspect_shares]
        quarter = max(1, self._num_places // 4)
        num_suspect, num_under_way = self._suspect.total(), sum(self.under_way().values())
        return ClaimLimits(
            paused=paused[-_MOST_NAMED:],
            shares=[share for share in self._shares if share in suspect_shares][-_MOST_NAMED:],
            trusted=trusted[-_MOST_NAMED:],
            places=max(0, quarter - num_suspect),
            per_share=min(self._per_share, max(1, quarter // 2)),
            under_way=dict(self._suspect),
            # one place is left for retries, however many first attempts there are
            other_places=max(0, max(1, self._num_places - 1) - (num_under_way - num_suspect)),
            long_places=max(0, quarter - self._num_long),
        )

    def start(self, due: DueDelivery) -> None:
        """Count a delivery that begins."""
        self._hosts.setdefault(due.host, _Known(due.share)).under_way += 1
        self._shares.setdefault(due.share, _Known(due.share)).under_way += 1
        self._suspect[due.share] += due.is_suspect
        self._num_long += due.is_long

    def finish(self, due: DueDelivery, *, is_reached: bool | None, is_good: bool = False) -> None:
        """Count a delivery's end, and how it went.

        Args:
            due: the delivery.
            is_reached: whether there was any answer; None: the attempt was cut short.
            is_good: whether the event was delivered, and without a long wait.
        """
        now = self._clock()
        self._suspect[due.share] -= due.is_suspect
        self._suspect += Counter()  # drops zeros
        self._num_long -= due.is_long
        for known in (self._latest(self._hosts, due.host), self._latest(self._shares, due.share)):
            known.under_way -= 1
            if is_reached is not None:
                known.is_good, known.seen_at = is_good, now
        host = self._hosts[due.host]
        if is_reached:
            host.unreached, host.paused_until = 0, 0.0
        elif is_reached is False and now >= host.paused_until:  # failures at the same time count once
            host.unreached += 1
            host.paused_until = now + _HOST_PAUSE.delay_s(host.unreached, 0.0)

    @staticmethod
    def _latest(table: dict[str, _Known], name: str) -> _Known:
        known = table[name] = table.pop(name)
        return known

    def _forget(self, now: float) -> None:
        for table in (self._hosts, self._shares):
            for name, known in list(table.items()):
                if known.seen_at > now - _FORGOTTEN_S and len(table) <= _MOST_KNOWN:
                    break  # the latest are last
                if not known.under_way:
                    del table[name]
