"""The twin's expositions against scrapes of the real servers: names, types, labels and buckets."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtimes.twin_support import EMULATED, SCRAPES, live, resolved, work

from gpu_inference.errors import UserError
from gpu_inference.twin import contract
from gpu_inference.twin.contract import SIMULATED, build_registry, one_two_five
from gpu_inference.twin.exposition import Family, Registry

INTERPRETER = ("python_", "process_")  # the real server's Python, not its engine
SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Exposition:
    """types: family -> type; labels: sample -> label names; values: (sample, label) -> values seen."""

    types: dict[str, str] = field(default_factory=dict)
    labels: dict[str, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    values: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))


def parse(text: str) -> Exposition:
    """Strict on what the twin writes: every line is a comment or a sample with a number."""
    found = Exposition()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            found.types[name] = kind
        if line.startswith("#") or not line:
            continue
        match = SAMPLE.match(line)
        assert match, line
        float(match[3])
        pairs = LABEL.findall(match[2] or "")
        found.labels[match[1]].add(tuple(sorted(name for name, _ in pairs)))
        for name, value in pairs:
            found.values[(match[1], name)].add(value)
    return found


def real(runtime: str) -> Exposition:
    path = SCRAPES / f"{FILES.get(runtime, runtime)}.txt"
    if not path.is_file():
        pytest.skip(f"no real scrape to compare with: {path} is absent")
    exposition = parse(path.read_text(encoding="utf-8"))
    out = contract.load(runtime).get("leftOut", {})
    families, names = set(out.get("families", ())), set(out.get("labels", ()))
    assert families <= set(exposition.types), "left out of the contract, but not in the scrape"
    samples = {name + end for name in families for end in ("", "_bucket", "_count", "_sum")}
    types = {
        name: kind
        for name, kind in exposition.types.items()
        if not name.startswith(INTERPRETER) and name not in families
    }
    labels = {
        name: {tuple(label for label in found if label not in names) for found in sets}
        for name, sets in exposition.labels.items()
        if not name.startswith(INTERPRETER) and name not in samples
    }
    values = {
        (name, label): seen
        for (name, label), seen in exposition.values.items()
        if name in labels and label not in {*names, *OWN}
    }
    return Exposition(types, labels, values)


FILES = {"llama-cpp": "llamacpp", "ray-serve": "ray_serve"}
# Labels whose values are of the scraped model, machine and requests.
OWN = {
    *("model", "model_name", "ModelName", "application", "deployment", "service_name", "runner_name"),
    *("hostname", "Hostname", "pid", "WorkerName", "replica", "handle"),
    *("handler", "method", "status", "status_code", "route", "endpoint", "http_response_code"),
}


def requests(runtime: str) -> list[tuple[str, dict[str, Any]]]:
    """Those that are answered, and those that are not, as the real servers had seen both."""
    refused = {"vllm": [("/v1/completions", {"model": "x", "prompt": "a"})], "torchserve": [("/nowhere", {})]}
    return [work(runtime), *refused.get(runtime, [])]


def emulated(runtime: str) -> Exposition:
    """After the kinds of requests the real servers had seen, since HTTP series appear with them."""

    async def scrape() -> str:
        async with live(resolved(runtime)) as server:
            for path, body in requests(runtime):
                await server.post(path, **body)
            return await server.scrape()

    return parse(asyncio.run(scrape()))


@pytest.mark.parametrize("runtime", EMULATED)
def test_families_and_types_are_the_real_ones(runtime: str) -> None:
    expected, found = real(runtime), emulated(runtime)
    assert found.types.pop(SIMULATED) == "gauge"
    assert found.types == expected.types


@pytest.mark.parametrize("runtime", EMULATED)
def test_samples_and_label_names_are_the_real_ones(runtime: str) -> None:
    expected, found = real(runtime), emulated(runtime)
    del found.labels[SIMULATED]
    assert dict(found.labels) == dict(expected.labels)


@pytest.mark.parametrize("runtime", EMULATED)
def test_buckets_and_enumerated_label_values_are_the_real_ones(runtime: str) -> None:
    """All values of labels that do not depend on the requests: bucket bounds, reasons, sources, states."""
    expected, found = real(runtime), emulated(runtime)
    compared = 0
    for (name, label), values in expected.values.items():
        if name == "vllm:cache_config_info" and label not in {
            "engine",
            "gpu_memory_utilization",
            "enable_prefix_caching",
        }:
            continue
        assert found.values[(name, label)] == values, f"{name} {label}"
        compared += 1
    assert compared > 5 or not any(labels for sets in expected.labels.values() for labels in sets)


@pytest.mark.parametrize("runtime", EMULATED)
def test_every_feed_of_a_contract_is_fed(runtime: str) -> None:
    """A family whose feed nobody counts into would stay 0 unnoticed: a few requests move all but the gauges at rest."""

    async def moved() -> set[str]:
        async with live(resolved(runtime)) as server:
            assert server.replica.server is not None
            families = server.replica.server.registry.families
            before = {family.name: family.render() for family in families}
            path, body = work(runtime)
            longer = {**body, "max_tokens": 5} if "max_tokens" in body else body
            bodies = [*requests(runtime) * 2, (path, longer)]
            await asyncio.gather(*(server.post(path, **body) for path, body in bodies))
            return {family.name for family in families if family.render() != before[family.name]}

    at_rest = {
        "",
        "running",
        "waiting",
        "inFlight",
        "kvCacheUsage",
        "preemptions",
        "pending",
        "finished.abort",
        "http5xx",
        "awake",
        "rejected",
        "canceled",
    }
    fed = set()
    for entry in contract.load(runtime)["families"]:
        feeds = {entry.get("feed", ""), *entry.get("by", {}).get("feeds", {}).values()}
        fed |= {entry["name"]} if feeds - at_rest else set()
    assert fed - asyncio.run(moved()) == set()


def test_presets_name_only_metrics_the_contract_has() -> None:
    """The metric names of the chart's presets exist in what the twin, checked against real scrapes, exports."""
    for runtime in EMULATED:
        metrics = resolved(runtime)["runtimePreset"]["metrics"]
        names = {family["name"] for family in contract.load(runtime)["families"]}
        series = {metrics["inFlight"]["series"]} if "inFlight" in metrics else set()
        histograms = {family["name"] for family in contract.load(runtime)["families"] if family["type"] == "histogram"}
        names |= {f"{name}_sum" for name in histograms}
        assert set(metrics["names"].values()) | series <= names
        ratio = metrics.get("queueComputeRatio", {"query": ""})
        assert set(re.findall(r"(\w+)\{", ratio["query"])) <= names


def test_unknown_runtime_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no contract of runtime vlm") as caught:
        contract.load("vlm")
    assert "triton, trtllm, vllm" in caught.value.fix


def test_one_two_five() -> None:
    assert one_two_five(1024) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert one_two_five(8192)[-2:] == (2000, 5000)


def contract_of(metrics: dict[str, Any], *families: dict[str, Any]) -> dict[str, Any]:
    common = {"created": False, "labels": {"engine": "0"}, "buckets": {}}
    return {"metrics": common | metrics, "families": [{"type": "gauge", "help": "", **entry} for entry in families]}


def test_labels_of_a_contract() -> None:
    """Constant ones by name, a family's own in full, beside an enumeration, and none that names the model."""
    described = contract_of(
        {},
        {"name": "plain"},
        {"name": "bare", "labels": []},
        {"name": "own", "labels": {"Level": "Model", "Name": "{servedName}"}},
        {"name": "by", "labels": ["model"], "by": {"labels": {"api": "rest"}, "label": "status", "feeds": {"OK": ""}}},
    )
    lines = build_registry(described, "model", {"m": ""}, {}, 0).render().decode().splitlines()
    assert lines[1::2][:4] == [
        'plain{engine="0",model="m"} 0.0',
        "bare 0.0",
        'own{Level="Model",Name="m"} 0.0',
        'by{api="rest",model="m",status="OK"} 0.0',
    ]
    unnamed = build_registry(described, "", {"m": ""}, {}, 0).render().decode()
    assert 'plain{engine="0"} 0.0' in unnamed
    assert 'by{api="rest",status="OK"} 0.0' in unnamed


def test_exponential_buckets_and_measured_amounts() -> None:
    """The last of `count` buckets is the open one; one feed reaches counters and histograms alike."""
    described = contract_of(
        {"buckets": {"micros": {"exponential": [10, 2, 4]}}},
        {"name": "time", "type": "histogram", "buckets": "micros", "feed": "us"},
        {"name": "total", "type": "counter", "feed": "us"},
    )
    registry = build_registry(described, "", {"m": ""}, {}, 0)
    registry.record("us", 25.0)
    text = registry.render().decode()
    bounds = [(line.split('le="')[1].split('"')[0], line[-3:]) for line in text.splitlines() if "_bucket" in line]
    assert bounds == [("10.0", "0.0"), ("20.0", "0.0"), ("40.0", "1.0"), ("+Inf", "1.0")]
    assert 'total{engine="0"} 25.0' in text
    assert "# HELP time" not in text  # no description, no line


def test_exposition_is_cached_until_a_value_changes() -> None:
    registry = Registry()
    family = Family("queue", "histogram", "Waiting.", (1.0, 2.0), created=5.0)
    registry.families.append(family)
    registry.connect("queue", family.add((("pod", 'a"\\\n'),)))
    registry.observe("queue", 1.0)
    registry.observe("queue", 9.0, 2)
    lines = registry.render().decode().splitlines()
    assert lines[2:7] == [
        'queue_bucket{le="1.0",pod="a\\"\\\\\\n"} 1.0',
        'queue_bucket{le="2.0",pod="a\\"\\\\\\n"} 1.0',
        'queue_bucket{le="+Inf",pod="a\\"\\\\\\n"} 3.0',
        'queue_count{pod="a\\"\\\\\\n"} 3.0',
        'queue_sum{pod="a\\"\\\\\\n"} 19.0',
    ]
    assert lines[7:] == ["# HELP queue_created Waiting.", "# TYPE queue_created gauge", lines[9]]
    assert lines[9].endswith(" 5.0")
    first = family.render()
    assert family.render() is first
    registry.observe("queue", 0.5)
    assert family.render() != first


def test_a_feed_of_the_wrong_kind_is_an_error() -> None:
    registry = Registry()
    family = Family("total", "counter", "Things.")
    registry.connect("things", family.add(()))
    with pytest.raises(TypeError, match="does not observe"):
        registry.observe("things", 1.0)
