"""Stands for the metrics of every pod, without a serving model: a test says how many requests are in flight.

It serves the API server's proxy URLs that Prometheus is told to scrape: /api/v1/namespaces/N/pods/POD:PORT/proxy/PATH.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_URL = re.compile(r"/api/v1/namespaces/[^/]+/pods/(?P<pod>[^:/]+):\w+/proxy/")
_GONE_SECONDS = 3.0  # a pod that was not scraped for so long has ended


def _vllm(in_flight: float, _: float, model: str) -> str:
    labels = f'{{model_name="{model}",engine="0"}}'
    running = min(in_flight, 4.0)
    return (
        f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {running}\n"
        f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{labels} {in_flight - running}\n"
    )


def _triton(_: float, seconds: float, model: str) -> str:
    name = "nv_inference_request_duration_us"
    return f'# TYPE {name} counter\n{name}{{model="{model}",version="1"}} {seconds * 1e6:.0f}\n'


# Runtime -> its exposition for (requests in flight, request seconds completed so far, model).
EXPOSITION: dict[str, Callable[[float, float, str], str]] = {"vllm": _vllm, "triton": _triton}


class FakeExporter:
    """Serves on a port; `in_flight` requests are reported by one of the pods scraped, and none by the others."""

    def __init__(self, port: int, runtime: str, model: str) -> None:
        self.in_flight = 0.0
        self._completed, self._since = 0.0, time.monotonic()
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                match = _URL.match(self.path)
                load, seconds = exporter._share(match["pod"]) if match else (0.0, 0.0)
                body = EXPOSITION[runtime](load, seconds, model).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    def _share(self, pod: str) -> tuple[float, float]:
        """(in flight, request seconds completed) of a pod."""
        with self._lock:
            now = time.monotonic()
            self._completed += self.in_flight * (now - self._since)
            self._since = now
            self._seen[pod] = now
            alive = [name for name, at in self._seen.items() if now - at < _GONE_SECONDS]
            return (self.in_flight, self._completed) if pod == min(alive) else (0.0, 0.0)

    def __enter__(self) -> FakeExporter:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
