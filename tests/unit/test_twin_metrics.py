"""The twin's expositions against scrapes of the real servers: names, types, labels and buckets."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from runtimes.twin_support import SCRAPES, live, resolved

from gpu_inference.errors import UserError
from gpu_inference.twin import contract
from gpu_inference.twin.contract import SIMULATED, one_two_five
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
    path = SCRAPES / f"{runtime}.txt"
    if not path.is_file():
        pytest.skip(f"no real scrape to compare with: {path} is absent")
    exposition = parse(path.read_text(encoding="utf-8"))
    types = {name: kind for name, kind in exposition.types.items() if not name.startswith(INTERPRETER)}
    labels = {name: sets for name, sets in exposition.labels.items() if not name.startswith(INTERPRETER)}
    return Exposition(types, labels, exposition.values)


REQUESTS = {
    "vllm": [("/v1/completions", {"prompt": "a", "max_tokens": 1}), ("/v1/completions", {"model": "x", "prompt": "a"})],
    "triton": [("/v2/models/tiny/infer", {"inputs": [{"name": "IN", "shape": [1], "datatype": "FP32", "data": [1]}]})],
}


def emulated(runtime: str) -> Exposition:
    """After the kinds of requests the real servers had seen, since HTTP series appear with them."""

    async def scrape() -> str:
        async with live(resolved(runtime)) as server:
            for path, body in REQUESTS[runtime]:
                await server.post(path, **body)
            return (await server.get("/metrics", server.replica.spec.metrics_port))[1]

    return parse(asyncio.run(scrape()))


@pytest.mark.parametrize("runtime", contract.known())
def test_families_and_types_are_the_real_ones(runtime: str) -> None:
    expected, found = real(runtime), emulated(runtime)
    assert found.types.pop(SIMULATED) == "gauge"
    assert found.types == expected.types


@pytest.mark.parametrize("runtime", contract.known())
def test_samples_and_label_names_are_the_real_ones(runtime: str) -> None:
    expected, found = real(runtime), emulated(runtime)
    del found.labels[SIMULATED]
    assert dict(found.labels) == dict(expected.labels)


@pytest.mark.parametrize("runtime", contract.known())
def test_buckets_and_enumerated_label_values_are_the_real_ones(runtime: str) -> None:
    """All values of labels that do not depend on the requests: bucket bounds, reasons, sources, states."""
    expected, found = real(runtime), emulated(runtime)
    compared = 0
    for (name, label), values in expected.values.items():
        if name.startswith(INTERPRETER) or label in {"model", "model_name", "handler", "method", "status"}:
            continue
        if name == "vllm:cache_config_info" and label not in {
            "engine",
            "gpu_memory_utilization",
            "enable_prefix_caching",
        }:
            continue
        assert found.values[(name, label)] == values, f"{name} {label}"
        compared += 1
    assert compared > 5


@pytest.mark.parametrize("runtime", contract.known())
def test_every_feed_of_a_contract_is_fed(runtime: str) -> None:
    """A family whose feed nobody counts into would stay 0 unnoticed: a few requests move all but the gauges at rest."""

    async def moved() -> set[str]:
        async with live(resolved(runtime)) as server:
            assert server.replica.server is not None
            families = server.replica.server.registry.families
            before = {family.name: family.render() for family in families}
            bodies = REQUESTS[runtime] * 2 + [("/v1/completions", {"prompt": "a", "max_tokens": 5})]
            await asyncio.gather(*(server.post(path, **body) for path, body in bodies if path[:3] == bodies[0][0][:3]))
            return {family.name for family in families if family.render() != before[family.name]}

    at_rest = {"running", "waiting", "kvCacheUsage", "preemptions", "pending"}
    fed = {entry["name"] for entry in contract.load(runtime)["families"] if entry.get("feed", "") not in {"", *at_rest}}
    assert fed - asyncio.run(moved()) == set()


def test_presets_name_only_metrics_the_contract_has() -> None:
    """The metric names of the chart's presets exist in what the twin, checked against real scrapes, exports."""
    for runtime in contract.known():
        metrics = resolved(runtime)["runtimePreset"]["metrics"]
        names = {family["name"] for family in contract.load(runtime)["families"]}
        assert set(metrics["names"].values()) | {metrics["inFlight"]["series"]} <= names


def test_unknown_runtime_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no contract of runtime vlm") as caught:
        contract.load("vlm")
    assert "triton, vllm" in caught.value.fix


def test_one_two_five() -> None:
    assert one_two_five(1024) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert one_two_five(8192)[-2:] == (2000, 5000)


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
