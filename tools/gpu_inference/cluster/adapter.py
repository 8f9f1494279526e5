"""Serves external.metrics.k8s.io/v1beta1 from Prometheus, by prometheus-adapter's own rules and with its answers.

An aggregated API server: it takes only connections with a client certificate of the front proxy's authority, so nobody
but the API server gets an answer. As with prometheus-adapter, a metric without any series is 404, a query without a
result is an empty list, and a Prometheus that does not answer is 500 (the HPA then keeps the replicas as they are).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import ssl
import sys
import threading
import time
import urllib.parse
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gpu_inference.cluster.adapter_rules import Rule, SelectorError, load_rules
from gpu_inference.cluster.direct import opener
from gpu_inference.errors import UserError

GROUP_VERSION = "external.metrics.k8s.io/v1beta1"
_ROOT = f"/apis/{GROUP_VERSION}"
_RELIST_SECONDS = 2.0
_SERIES_MAX_AGE_SECONDS = 600  # prometheus-adapter's --metrics-relist-interval default, also its --metrics-max-age
_PROMETHEUS_TIMEOUT_SECONDS = 5.0


class ApiFailure(Exception):
    """An answer other than 200. code: HTTP status; reason: the Status object's."""

    def __init__(self, code: HTTPStatus, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class Prometheus:
    """The two calls of Prometheus' HTTP API that are needed. Both raise ApiFailure (500) without an answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opener = opener()

    def series_names(self, selector: str) -> set[str]:
        """Names of the series that match `selector` and had a sample lately."""
        start = str(time.time() - _SERIES_MAX_AGE_SECONDS)
        return {series["__name__"] for series in self._call("series", {"match[]": selector, "start": start})}

    def query(self, query: str) -> list[dict[str, Any]]:
        """The samples of an instant query, a scalar as one sample without labels."""
        data = self._call("query", {"query": query})
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        if data["resultType"] != "vector":
            raise _internal(f"the query's result is a {data['resultType']}")
        return list(data["result"])

    def _call(self, path: str, parameters: dict[str, str]) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with self._opener.open(url, timeout=_PROMETHEUS_TIMEOUT_SECONDS) as answer:
                return json.load(answer)["data"]
        except (OSError, ValueError, KeyError) as error:
            raise _internal(f"{path}: {error}") from None


class Registry:
    """Which metric is made of which series by which rule; asked of Prometheus again when older than two seconds."""

    def __init__(self, rules: list[Rule], prometheus: Prometheus) -> None:
        self.rules, self.prometheus = rules, prometheus
        self._metrics: dict[str, tuple[Rule, str]] = {}
        self._until = 0.0
        self._lock = threading.Lock()

    def metrics(self) -> dict[str, tuple[Rule, str]]:
        with self._lock:
            if time.monotonic() >= self._until:
                found = {}
                for rule in self.rules:
                    for series in sorted(self.prometheus.series_names(rule.series_query)):
                        if name := rule.metric_name(series):
                            found[name] = (rule, series)
                self._metrics, self._until = found, time.monotonic() + _RELIST_SECONDS
            return self._metrics

    def values(self, namespace: str, metric: str, selector: str) -> list[dict[str, Any]]:
        """ExternalMetricValue objects. Raises ApiFailure."""
        if metric not in self.metrics():
            raise ApiFailure(
                HTTPStatus.NOT_FOUND,
                "NotFound",
                f"the server could not find the metric {metric} for namespace {namespace}",
            )
        rule, series = self.metrics()[metric]
        try:
            query = rule.query(series, namespace, selector)
        except SelectorError as error:
            raise ApiFailure(HTTPStatus.BAD_REQUEST, "BadRequest", str(error)) from None
        return [_metric_value(metric, sample) for sample in self.prometheus.query(query)]


def _internal(detail: str) -> ApiFailure:
    print(f"adapter: {detail}", file=sys.stderr, flush=True)
    return ApiFailure(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "unable to fetch metrics")


def _metric_value(metric: str, sample: dict[str, Any]) -> dict[str, Any]:
    seconds, value = float(sample["value"][0]), float(sample["value"][1])
    return {
        "metricName": metric,
        "metricLabels": sample["metric"],
        "timestamp": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "value": quantity(value),
    }


def quantity(value: float) -> str:
    """A Kubernetes quantity with milli precision, cut off as prometheus-adapter's int64(value * 1000): 2.5 -> "2500m".

    ApiFailure for a value that is no finite number: it has no quantity, and a made-up one would scale something.
    """
    if not math.isfinite(value):
        raise _internal(f"the query's result is {value}")
    milli = int(value * 1000)
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


class Handler(BaseHTTPRequestHandler):
    """The URL space of the API group. `registry` is set on a subclass."""

    registry: Registry
    protocol_version = "HTTP/1.1"
    timeout = 60  # idle connections end

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        try:
            self._answer(HTTPStatus.OK, self._content(url.path.rstrip("/"), urllib.parse.parse_qs(url.query)))
        except ApiFailure as failure:
            self._answer(failure.code, _status(failure))

    def _content(self, path: str, query: dict[str, list[str]]) -> Any:
        if path in ("/healthz", "/readyz", "/livez"):
            return "ok"
        if path == _ROOT:
            return self._resources()
        if match := re.fullmatch(rf"{re.escape(_ROOT)}/namespaces/([^/]+)/([^/]+)", path):
            namespace, metric = (urllib.parse.unquote(part) for part in match.groups())
            items = self.registry.values(namespace, metric, query.get("labelSelector", [""])[0])
            return {"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items}
        raise ApiFailure(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource")

    def _resources(self) -> dict[str, Any]:
        """Discovery: it works without Prometheus, or the API would count as unavailable with it."""
        try:
            names = sorted(self.registry.metrics())
        except ApiFailure:
            names = []
        resources = [
            {"name": name, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
            for name in names
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": resources}

    def _answer(self, code: HTTPStatus, content: Any) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: the HPA asks without end."""


def _status(failure: ApiFailure) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": str(failure),
        "reason": failure.reason,
        "code": int(failure.code),
    }


class Server(ThreadingHTTPServer):
    """HTTPS. A client other than the front proxy fails in the handshake, in a thread of its own."""

    daemon_threads = True

    def __init__(self, host: str, port: int, registry: Registry, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__((host, port), type("BoundHandler", (Handler,), {"registry": registry}))

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        connection.settimeout(Handler.timeout)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # broken connections and handshakes are the client's affair
            super().handle_error(request, client_address)


def front_proxy_context(cert: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS that takes only clients with a certificate of `client_ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def main() -> int:
    parser = argparse.ArgumentParser(description="External metrics API from Prometheus")
    parser.add_argument("--rules", type=Path, required=True)
    parser.add_argument("--prometheus-url", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    for name in ("--cert", "--key", "--client-ca"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    try:
        registry = Registry(load_rules(args.rules), Prometheus(args.prometheus_url))
        server = Server(args.host, args.port, registry, front_proxy_context(args.cert, args.key, args.client_ca))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
