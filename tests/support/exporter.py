"""Stands for the metrics of every pod, without a serving model: a test says how many requests are in flight.

It serves the API server's proxy URLs that Prometheus is told to scrape: /api/v1/namespaces/N/pods/POD:PORT/proxy/PATH.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gpu_inference.values.presets import load_presets

_URL = re.compile(r"/api/v1/namespaces/[^/]+/pods/(?P<pod>[^:/]+):\w+/proxy/")
_GONE_SECONDS = 3.0  # a pod that was not scraped for so long has ended


def _exposition(metrics: dict[str, Any], in_flight: float, seconds: float, model: str) -> str:
    """What a preset's query reads: counters of time, or gauges that share the requests, the first at most 4 of them."""
    label = metrics.get("labels", {}).get("model")
    labels = f'{{{label}="{model}"}}' if label else ""
    query = metrics["inFlight"]["query"]
    if counters := re.findall(r"rate\(([\w:]+)\{", query):
        per_second = float(query.rpartition("/ ")[2])
        return "".join(f"# TYPE {name} counter\n{name}{labels} {seconds * per_second:.0f}\n" for name in counters)
    gauges = re.findall(r"sum\(([\w:]+)\{", query)
    running = min(in_flight, 4.0) if gauges[1:] else in_flight
    values = [running, in_flight - running, *(0.0 for _ in gauges)]
    return "".join(
        f"# TYPE {name} gauge\n{name}{labels} {value}\n" for name, value in zip(gauges, values, strict=False)
    )


def _metrics() -> dict[str, dict[str, Any]]:
    """Runtime -> its metrics, where they tell the requests in flight."""
    metrics = {name: preset["metrics"] for name, preset in load_presets("runtimes").items()}
    return {name: said for name, said in metrics.items() if "inFlight" in said}


# Runtime -> its exposition for (requests in flight, request seconds completed so far, model).
EXPOSITION: dict[str, Callable[[float, float, str], str]] = {
    name: functools.partial(_exposition, said) for name, said in _metrics().items()
}


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
