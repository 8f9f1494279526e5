"""Dynamic batching of whole requests, as for classifiers, rerankers and ensembles: no tokens, one answer a request.

    batch time = batch_seconds + item_seconds * items

`instances` batches run at once (one a GPU); a free instance takes what waits, in order, up to max_items and at once:
no delay is spent waiting for a batch to fill. The interface is the engine's: submit, abort, begin_step,
complete_step, next_step.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Service:
    """Seconds a batch costs, seconds each of its items costs, items a batch may hold, batches at once."""

    batch_seconds: float
    item_seconds: float
    max_items: int
    instances: int = 1

    def seconds(self, items: int) -> float:
        return self.batch_seconds + self.item_seconds * items


@dataclass(eq=False, slots=True)
class Job:
    """One request of `items` items. Times are those of the caller's clock, in seconds."""

    items: int
    arrival: float = 0.0
    started: float = -1.0
    aborted: bool = False
    owner: Any = field(default=None, repr=False)


@dataclass(slots=True)
class BatchResult:
    """A batch that ended: its jobs, without those aborted meanwhile."""

    end: float
    started: float
    finished: list[Job]


class BatchEngine:
    """First come, first served batches."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.waiting: deque[Job] = deque()
        self._busy: list[tuple[float, int, float, list[Job]]] = []
        self._batches = 0

    @property
    def running(self) -> list[Job]:
        return [job for _, _, _, jobs in self._busy for job in jobs if not job.aborted]

    def submit(self, job: Job, now: float) -> None:
        """Queue a request. Raises ValueError when it is larger than a batch may be."""
        if not 1 <= job.items <= self.service.max_items:
            raise ValueError(f"{job.items} items: between 1 and {self.service.max_items} are allowed")
        job.arrival = now
        self.waiting.append(job)

    def abort(self, job: Job) -> None:
        """Forget a request; a batch under way keeps its length."""
        job.aborted = True
        if job in self.waiting:
            self.waiting.remove(job)

    def begin_step(self, now: float) -> float | None:
        """Start batches on the free instances; the end of the batch that ends first, None without any."""
        while self.waiting and len(self._busy) < self.service.instances:
            jobs = [self.waiting.popleft()]
            items = jobs[0].items
            while self.waiting and items + self.waiting[0].items <= self.service.max_items:
                items += self.waiting[0].items
                jobs.append(self.waiting.popleft())
            for job in jobs:
                job.started = max(now, job.arrival)
            self._batches += 1
            heapq.heappush(self._busy, (now + self.service.seconds(items), self._batches, now, jobs))
        return self._busy[0][0] if self._busy else None

    def complete_step(self) -> BatchResult:
        """End the batch that ends first."""
        end, _, started, jobs = heapq.heappop(self._busy)
        return BatchResult(end, started, [job for job in jobs if not job.aborted])

    def next_step(self, now: float) -> BatchResult | None:
        """Begin and complete: for virtual time. None when there is nothing to do."""
        return None if self.begin_step(now) is None else self.complete_step()
