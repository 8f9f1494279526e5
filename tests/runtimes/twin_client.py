"""Clients of emulated servers in processes of their own."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from typing import Any


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def ask(port: int, path: str, body: dict[str, Any] | None = None, timeout: float = 10) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class InFlight:
    """A request in a thread: `started` once its first bytes are here; then `result`, or `error`."""

    def __init__(self, port: int, path: str, body: dict[str, Any], wait_for_bytes: bool = True) -> None:
        self.started, self.data, self.error = threading.Event(), b"", ""
        self.ended = 0.0
        self._arguments = (port, path, body, wait_for_bytes)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.started.wait(10)

    def _run(self) -> None:
        port, path, body, wait = self._arguments
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", path, json.dumps(body))
            if not wait:
                self.started.set()
            response = connection.getresponse()
            while chunk := response.read1():
                self.data += chunk
                self.started.set()
        except (OSError, http.client.HTTPException) as error:
            self.error = type(error).__name__
        self.ended = time.monotonic()
        self.started.set()

    def join(self) -> InFlight:
        self._thread.join(15)
        assert not self._thread.is_alive(), "the request hangs"
        return self

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()
