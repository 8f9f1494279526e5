"""Where the rules of values say nothing, and what they make of values that may hold anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_inference.validate.engine import Subject, check
from gpu_inference.values.loader import parse

MODEL = {"runtime": "vllm", "model": {"source": "hf://org/name"}, "accelerator": {"type": "nvidia-l4"}}
GATEWAY = {"type": "prometheus", "metadata": {"query": "sum(gateway_queue)", "ignoreNullValues": "false"}}
OWN = {"type": "prometheus", "metadata": {"query": "sum(vllm:num_requests_waiting)", "ignoreNullValues": "false"}}
ISTIO = {"podLabels": {"sidecar.istio.io/inject": "true"}}


def found(values: dict[str, Any]) -> set[str]:
    return {finding.rule for finding in check([Subject([parse(json.dumps(values).encode(), "v.yaml")])]).findings}


def of(**changes: Any) -> set[str]:
    return found({"models": {"m": {**MODEL, **changes}}})


def zero(*triggers: Any, **changes: Any) -> dict[str, Any]:
    own = {"serverAddress": "http://prometheus", "scaleToZero": True, "cooldownPeriod": 1800, "triggers": triggers}
    return {"autoscaling": {"enabled": True, "provider": "keda", "minReplicas": 0, **changes, "keda": own}}


@pytest.mark.parametrize(
    "changes",
    {
        "a value in JSON": {"extraArgs": ['--speculative-config={"method": "ngram", "n": 2}', "--x", '{"a": 1}']},
        "one rank": {"extraArgs": ["--data-parallel-size=1"]},
        "another image's tag": {"image": {"repository": "registry.example.com/own", "tag": "0.1.0"}},
        "a tag without a version": {"image": {"tag": "nightly-2026"}},
        "the version of an older image": {"image": {"tag": "v0.25.0"}, "runtimeVersion": "0.25.0"},
        "a longer grace period": {"pod": {"terminationGracePeriodSeconds": 600}},
        "one pod that goes first": {"drain": {"preStopSeconds": 0}, "rollout": {"spareGPU": False}},
        "a shell that hands over": {"container": {"command": ["/bin/sh", "-c", '. /env; exec vllm serve "$@"', "sh"]}},
        "a shell of one command": {"container": {"command": ["bash", "-c", 'vllm serve "$@"', "bash"]}},
        "a native sidecar": {**ISTIO, "podAnnotations": {"sidecar.istio.io/nativeSidecar": "true"}},
        "a sidecar that waits for connections": {
            **ISTIO,
            "podAnnotations": {"proxy.istio.io/config": "proxyMetadata: {EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true'}"},
        },
        "a probe of progress": {"progress": {"liveness": True}, "probes": {"readiness": {"failureThreshold": 12}}},
        "one trigger in front of it": zero(OWN, GATEWAY),
        "its own series with pods": zero(OWN, minReplicas=1),
        "metrics off that nobody reads": {"extraArgs": ["--disable-log-stats"]},
        "a small /dev/shm of one GPU": {"shm": {"sizeLimit": "64Mi"}},
        "a canary by the served name": {
            "canary": {"request": {"method": "POST", "path": "/x", "body": {"model": "m"}, "expect": {"status": 200}}}
        },
        "spot nodes for the inside": {"capacity": "onDemand", "replicas": 1},
    }.items(),
    ids=lambda case: case[0],
)
def test_nothing_to_say(changes):
    assert of(**changes[1]) == set()


def test_an_entry_point_that_splits():
    """TGI's own takes a flag and its value in one word."""
    model = {**MODEL, "runtime": "tgi", "extraArgs": ["--max-batch-size 8"]}
    report = check([Subject([parse(json.dumps({"models": {"m": model}}).encode(), "v.yaml")])])
    assert {(f.rule, f.severity) for f in report.findings if f.rule != "runtime-status"} == {
        ("argument-spaces", "warning")
    }


def test_a_server_without_a_better_signal():
    """The CPU is what there is."""
    target = {"requestsInFlight": False, "cpuUtilization": 70}
    model = {
        **MODEL,
        "runtime": "nim",
        "model": {"source": "image://"},
        "autoscaling": {"enabled": True, "target": target},
    }
    assert found({"models": {"m": {**model, "image": {"repository": "nvcr.io/nim/x", "tag": "2.0.12"}}}}) == set()


def test_the_same_server_under_another_name():
    """What is known of a server is known by its command."""
    args = [{"flag": "--model-path", "from": "model.reference"}, {"flag": "--port", "from": "ports.http"}]
    own = {
        "api": "openai",
        "modelSources": ["hf"],
        "ports": {"http": 30000},
        "command": ["python3", "-m", "sglang.launch_server"],
        "args": args,
        "probes": {kind: {"path": "/health", "port": "http"} for kind in ("startup", "readiness", "liveness")},
        "metrics": {"port": "http", "path": "/metrics", "names": {}},
        "lifecycle": {"bindsBeforeLoad": False, "sigterm": "finishInFlight", "teardownSeconds": 5},
        "canary": {"method": "GET", "path": "/health", "expect": {"status": 200}},
        "defaults": {"image": {"repository": "registry.example.com/own", "tag": "v1"}},
    }
    model = {**MODEL, "runtime": "own", "probes": {"startup": {"timeoutSeconds": 2}}}
    assert found({"runtimes": {"own": own}, "models": {"m": model}}) == {"localhost-only", "probe-timeout"}


ANYTHING = [5, "x", [], [5], {"a": 1}, True, {"httpGet": 5}, {"httpGet": {"port": [1], "path": 7}}, {"preStop": 5}]
ANYTHING += [{"preStop": {"sleep": {"seconds": "x"}}}, {"timeoutSeconds": "x", "periodSeconds": 0}, {"limits": 5}]


@pytest.mark.parametrize("key", ["livenessProbe", "startupProbe", "lifecycle", "command", "resources"])
def test_a_container_may_hold_anything(key):
    for value in ANYTHING:
        of(container={key: value})


def test_a_trigger_may_hold_anything():
    for metadata in (5, "x", [], {}, {"query": 5}):
        of(**zero({"type": "prometheus", "metadata": metadata}))
        of(**zero({"type": 5, "metadata": metadata}, minReplicas=1))
