"""The external metrics adapter: rules, PromQL, quantities, and its answers over TLS."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import yaml
from gpu_inference.cluster.embedded.pki import Pki

from gpu_inference.cluster import adapter
from gpu_inference.cluster.adapter import ApiFailure, Prometheus, Registry, Server, front_proxy_context, quantity
from gpu_inference.cluster.adapter_rules import SelectorError, load_rules, selector_matchers
from gpu_inference.cluster.command import RULES
from gpu_inference.errors import UserError

RULE = {
    "seriesQuery": 'vllm:num_requests_running{namespace!=""}',
    "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
    "name": {"as": "vllm_requests_in_flight"},
    "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) + sum(vllm:num_requests_waiting{<<.LabelMatchers>>})",
}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def rule(tmp_path: Path, **changes: Any) -> Any:
    return load_rules(write(tmp_path / "rules.yaml", {"externalRules": [{**RULE, **changes}]}))[0]


def test_query_has_the_selector_and_the_namespace(tmp_path: Path) -> None:
    made = rule(tmp_path).query("vllm:num_requests_running", "prod", "app=llm,gpu_inference_io_model=llama")
    matchers = 'app="llm",gpu_inference_io_model="llama",namespace="prod"'
    assert made == f"sum(vllm:num_requests_running{{{matchers}}}) + sum(vllm:num_requests_waiting{{{matchers}}})"


def test_rule_without_namespace(tmp_path: Path) -> None:
    free = rule(tmp_path, resources={"namespaced": False}, metricsQuery="max(<<.Series>>{<<.LabelMatchers>>})")
    assert free.query("s", "prod", "") == "max(s{})"


def test_namespace_label_of_a_template(tmp_path: Path) -> None:
    templated = rule(tmp_path, resources={"template": "kube_<<.Resource>>"}, metricsQuery="s{<<.LabelMatchers>>}")
    assert templated.query("s", "prod", "") == 's{kube_namespace="prod"}'


def test_the_shipped_rules_subtract_what_a_base_bears() -> None:
    """Only where the selector tells it; `notin` takes the series that do not have the label, which are all."""
    for shipped in load_rules(RULES):
        series = shipped.series_query.partition("{")[0]
        plain = shipped.query(series, "prod", "gpu_inference_io_model=m")
        less = shipped.query(series, "prod", "gpu_inference_io_model=m,gpu_inference_io_base_requests notin (16)")
        assert "<<" not in plain and "clamp_min" not in plain
        assert less.startswith("clamp_min(") and less.endswith(" - 16, 0)")
        without = less.replace('gpu_inference_io_base_requests!="16",', "")
        assert without == f"clamp_min({plain} - 16, 0)"


@pytest.mark.parametrize(
    ("name", "series", "metric"),
    [
        ({"as": "fixed"}, "vllm:running", "fixed"),
        ({"matches": "^vllm:(.*)$", "as": "vllm_${1}"}, "vllm:running", "vllm_running"),
        ({"matches": "^vllm:(.*)$", "as": "vllm_$1"}, "vllm:running", "vllm_running"),
        ({"matches": "^other:(.*)$", "as": "x_$1"}, "vllm:running", None),
        ({}, "running", "running"),
    ],
)
def test_metric_names(tmp_path: Path, name: dict[str, str], series: str, metric: str | None) -> None:
    assert rule(tmp_path, name=name).metric_name(series) == metric


@pytest.mark.parametrize(
    ("selector", "matchers"),
    [
        ("", []),
        ("a=b", ['a="b"']),
        ("a==b,c!=d", ['a="b"', 'c!="d"']),
        ("a in (b,c),d notin (e)", ['a=~"b|c"', 'd!="e"']),
        ("a notin (b, c)", ['a!~"b|c"']),
        ("a,!b", ['a!=""', 'b=""']),
    ],
)
def test_selectors(selector: str, matchers: list[str]) -> None:
    assert selector_matchers(selector) == matchers


@pytest.mark.parametrize("selector", ["app.kubernetes.io/name=x", "a=b=c", "a in b", 'a="b"'])
def test_selectors_that_cannot_be(selector: str) -> None:
    with pytest.raises(SelectorError):
        selector_matchers(selector)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (3.0, "3"), (2.5, "2500m"), (0.0004, "0"), (1e9, "1000000000"), (-1.5, "-1500m")]
)
def test_quantities(value: float, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_quantity_is_made_up(value: float) -> None:
    with pytest.raises(ApiFailure):
        quantity(value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "cannot read the rules"),
        ({}, "has no external rules"),
        ({"rules": {"external": []}}, "has no external rules"),
        ({"externalRules": [{"seriesQuery": "x"}]}, "is not complete: 'metricsQuery'"),
        ({"externalRules": ["x"]}, "is not complete"),
        ({"externalRules": [{**RULE, "metricsQuery": "<<.Nonsense>>"}]}, "<<.Nonsense>> is not supported"),
    ],
)
def test_bad_rules_are_one_clear_error(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_rules(write(tmp_path / "rules.yaml", content))
    assert message in caught.value.message and "\n" not in caught.value.message and caught.value.fix


def test_chart_values_form_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "values.yaml", {"rules": {"external": [RULE]}})
    assert [found.metric_name("vllm:num_requests_running") for found in load_rules(path)] == ["vllm_requests_in_flight"]


class FakePrometheus(BaseHTTPRequestHandler):
    """Knows one series and answers every query with `samples`."""

    samples: list[Any] = []  # noqa: RUF012  (set by each test)
    queries: list[str] = []  # noqa: RUF012
    known = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/api/v1/series":
            data: Any = [{"__name__": "vllm:num_requests_running"}] if self.known else []
        else:
            FakePrometheus.queries.append(parse_qs(url.query)["query"][0])
            data = {"resultType": "vector", "result": self.samples}
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("tls") / "pki", served=["adapter.test.svc"])


@pytest.fixture
def prometheus() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakePrometheus)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    FakePrometheus.known, FakePrometheus.samples = True, []
    FakePrometheus.queries.clear()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(pki: Pki, prometheus: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """A request to a running adapter as the user of a certificate: (status, parsed body)."""
    monkeypatch.setattr(adapter, "_RELIST_SECONDS", 0.0)
    rules = load_rules(write(tmp_path / "rules.yaml", {"externalRules": [RULE]}))
    registry = Registry(rules, Prometheus(f"http://127.0.0.1:{prometheus.server_address[1]}"))
    context = front_proxy_context(pki.crt("adapter"), pki.key("adapter"), pki.crt("front-proxy-ca"))
    server = Server(0, registry, context)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(path: str, user: str | None = "front-proxy-client") -> tuple[int, Any]:
        client = ssl.create_default_context(cafile=str(pki.crt("ca")))
        if user:
            client.load_cert_chain(pki.crt(user), pki.key(user))
        connection = http.client.HTTPSConnection("127.0.0.1", server.server_address[1], context=client, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    yield ask
    server.shutdown()
    server.server_close()


ROOT = "/apis/external.metrics.k8s.io/v1beta1"
METRIC = f"{ROOT}/namespaces/prod/vllm_requests_in_flight"


def test_discovery_lists_the_metrics(ask: Ask) -> None:
    status, body = ask(ROOT)
    assert (status, body["kind"]) == (200, "APIResourceList")
    assert [resource["name"] for resource in body["resources"]] == ["vllm_requests_in_flight"]


def test_values(ask: Ask) -> None:
    FakePrometheus.samples = [{"metric": {"model": "llama"}, "value": [1700000000.7, "12.5"]}]
    status, body = ask(f"{METRIC}?labelSelector={quote('app=llm')}")
    assert (status, body["kind"]) == (200, "ExternalMetricValueList")
    assert body["items"] == [
        {
            "metricName": "vllm_requests_in_flight",
            "metricLabels": {"model": "llama"},
            "timestamp": "2023-11-14T22:13:20Z",
            "value": "12500m",
        }
    ]
    assert 'app="llm",namespace="prod"' in FakePrometheus.queries[-1]


def test_no_result_is_an_empty_list(ask: Ask) -> None:
    assert ask(METRIC) == (
        200,
        {
            "kind": "ExternalMetricValueList",
            "apiVersion": "external.metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": [],
        },
    )


def test_unknown_metric_is_not_found(ask: Ask) -> None:
    status, body = ask(f"{ROOT}/namespaces/prod/other")
    assert (status, body["reason"], body["code"]) == (404, "NotFound", 404)
    FakePrometheus.known = False
    assert ask(METRIC)[0] == 404, "a metric whose series are gone is not there any more"


def test_bad_selector_is_a_bad_request(ask: Ask) -> None:
    assert ask(f"{METRIC}?labelSelector={quote('app.kubernetes.io/name=x')}")[0] == 400


def test_without_prometheus_values_fail_and_discovery_does_not(ask: Ask, prometheus: ThreadingHTTPServer) -> None:
    prometheus.shutdown()
    prometheus.server_close()
    status, body = ask(METRIC)
    assert (status, body["reason"]) == (500, "InternalError")
    assert ask(ROOT)[0] == 200


@pytest.mark.parametrize("user", [None, "admin"], ids=["no certificate", "another authority's certificate"])
def test_only_the_front_proxy_is_answered(ask: Ask, user: str | None) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        ask(ROOT, user)
    assert ask(ROOT)[0] == 200
