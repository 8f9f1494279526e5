"""Runs an engine in real time: one timer a step, whatever the number of requests in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

LAG = 0.25  # s behind the model's time a busy process may catch up; past it the lost time stays lost


class Steps(Protocol):
    """What the engines of gpu_inference.serving have in common."""

    def submit(self, item: Any, now: float, /) -> None: ...
    def abort(self, item: Any, /) -> None: ...
    def begin_step(self, now: float, /) -> float | None: ...
    def complete_step(self) -> Any: ...


class Driver:
    """Calls `on_result` with every step's result, at the time the engine says."""

    def __init__(self, engine: Steps, on_result: Callable[[Any], None]) -> None:
        self.engine = engine
        self._on_result = on_result
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.clock = self._loop.time

    def submit(self, item: Any) -> None:
        """Queue a request and start a step if the engine is idle. ValueError as the engine's submit."""
        now = self.clock()
        self.engine.submit(item, now)
        self._arm(self.engine.begin_step(now))

    def stop(self) -> None:
        """No more steps: what is in flight never ends."""
        self._stopped = True
        if self._timer:
            self._timer.cancel()

    def _arm(self, end: float | None) -> None:
        if end is None or self._stopped:
            return
        if self._timer is not None:
            if self._timer.when() <= end:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(end, self._fire)

    def _fire(self) -> None:
        self._timer = None
        result = self.engine.complete_step()
        now = self.clock()
        # The next step starts when this one should have ended, not when the timer woke up: delays do not add up.
        start = result.end if now - result.end < LAG else now
        self._arm(self.engine.begin_step(start))
        self._on_result(result)
