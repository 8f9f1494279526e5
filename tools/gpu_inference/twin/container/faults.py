"""What goes wrong with servers, at will: POST /twin/faults/<name>, or TWIN_FAULT=<name> from the start.

hang         at run time only: the engine makes no more tokens; requests stay open, health stays 200, metrics answer
crash        the process is gone at once, with code 139
flap         the path of the readiness probe answers 503 for every other ?seconds=
memory       takes memory until it is killed, at most ?mib=
disk         writes to TWIN_DISK (/tmp) until nothing more fits, at most ?mib=
never-load   at start only: the model is never loaded
none         ends hang (what hung stays lost) and flap
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from gpu_inference.twin.replica import Replica
from gpu_inference.twin.server import answer

PREFIX = "/twin/faults/"
NEVER_LOAD = "never-load"
CRASHED = 139  # as after a segmentation fault
MIB = 2**20


class Faults:
    """Answers requests in a server's place; `before` is asked first of every request."""

    def __init__(self, replica: Replica, report: Callable[[str], None], disk: Path) -> None:
        self._replica, self._report, self._disk = replica, report, disk
        probes = replica.spec.resolved["runtimePreset"].get("probes", {})
        self._ready_path = probes.get("readiness", {}).get("path", "").replace("{servedName}", replica.spec.served_name)
        self._flap = 0.0
        self._since = 0.0
        self._held: list[bytearray] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def before(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """The answer to a request that a fault concerns; None when it is the server's."""
        if request.path.startswith(PREFIX):
            name = request.path.removeprefix(PREFIX)
            options = {key: float(value) for key, value in request.query.items()}
            return answer(200 if self.start(name, **options) else 404, {"fault": name, "simulated": True})
        if self._flap and request.path == self._ready_path:
            odd = int((time.monotonic() - self._since) / self._flap) % 2
            return None if odd else answer(503, {"error": "not ready"})
        return None

    def start(self, name: str, seconds: float = 4, mib: float = 4096) -> bool:
        """Begin a fault; False when there is none of that name."""
        self._report(f"twin: fault {name}")
        if name == "hang":
            self._hang()
        elif name == "crash":
            os._exit(CRASHED)
        elif name in ("flap", "none"):
            self._flap, self._since = seconds * (name == "flap"), time.monotonic()
        elif name in ("memory", "disk"):
            task = asyncio.create_task(self._fill(self._take if name == "memory" else self._write, int(mib)))
            self._tasks.add(task)
        else:
            return False
        return True

    def _hang(self) -> None:
        if self._replica.server:
            self._replica.server.halt()

    async def _fill(self, one: Callable[[], None], mib: int) -> None:
        try:
            for _ in range(mib):
                one()
                await asyncio.sleep(0)
        except OSError as error:
            self._report(f"twin: {error.strerror}")

    def _take(self) -> None:
        self._held.append(bytearray(os.urandom(4096) * (MIB // 4096)))

    def _write(self) -> None:
        with (self._disk / "twin-fault").open("ab") as file:
            file.write(bytes(MIB))
            file.flush()
