"""What servers of whole requests share: batches in the contract's service times, no tokens, one answer a request."""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from gpu_inference.serving.batch import BatchEngine, BatchResult, Job
from gpu_inference.twin.driver import Driver
from gpu_inference.twin.server import Server
from gpu_inference.twin.spec import ServerSpec, batch_service

MICRO = 1e6


class BatchServer(Server):
    """Queues requests, works on them in batches, and counts them. Subclasses emulate an API."""

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec)
        self.engine = BatchEngine(batch_service(spec))
        self.driver = Driver(self.engine, self._on_batch)
        self._waiters: set[asyncio.Future[bool]] = set()

    @abstractmethod
    def count(self, result: BatchResult) -> None:
        """A batch has ended: into the metrics with it."""

    def load(self) -> dict[str, float]:
        return {
            "running": len(self.engine.running),
            "waiting": len(self.engine.waiting),
            "kvCacheUsage": 0.0,
            "promptTokens": 0,
            "generatedTokens": 0,
        }

    def abort_all(self) -> None:
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_result(False)

    def halt(self) -> None:
        super().halt()
        self.driver.stop()

    async def work(self, items: int) -> bool:
        """Queue a request of `items` items and wait for it; False when it was aborted. ValueError when a batch cannot
        hold it."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        job = Job(items, owner=waiter)
        self.driver.submit(job)
        self._waiters.add(waiter)
        done = False
        try:
            done = await waiter
        finally:  # also when the client has left
            self._waiters.discard(waiter)
            if done:
                self.finished += 1
            else:
                self.engine.abort(job)
                self.failed += 1
                self.registry.add("canceled")
        return done

    def _on_batch(self, result: BatchResult) -> None:
        self.count(result)
        for job in result.finished:
            if not job.owner.done():
                job.owner.set_result(True)
