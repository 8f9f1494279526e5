"""The big switches of a model, as data: what the combinations are made of.

A switch is a line: value -> what a model says for it. A combination the chart refuses is a line of RULES; that it does
refuse it is tested. `runtime`, `accelerator` and `cloud` are the chart's presets.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .expected import over
from .matrix import ACCELERATORS, CLOUDS, RUNTIMES, Case, minimal_model, offered, preset
from .pairwise import Row, rows
from .render import as_layer

PARENTS = [{"name": "public", "namespace": "gateways"}]
CLAIM = {"mountPath": "/state", "size": "10Gi"}
EXTRA = {
    "env": {"EXTRA": "1", "SECRET": {"secretKeyRef": {"name": "extra", "key": "value"}}},
    "extraArgs": ["--extra"],
    "volumes": {"extra": {"mount": {"mountPath": "/extra"}, "source": {"secret": {"secretName": "extra"}}}},
    "writable": {"spool": {"path": "/var/spool", "sizeLimit": "1Gi"}},
    "podLabels": {"team": "extra"},
    "podAnnotations": {"team": "extra"},
    "tolerations": {"extra": {"key": "extra", "operator": "Exists"}},
    "pod": {"priorityClassName": "extra"},
    "container": {"terminationMessagePolicy": "FallbackToLogsOnError"},
}  # fmt: skip

POOL = {"nodeSelector": {"pool": "shared"}}  # of nodes that are marked in no other way


def _slice(row: Row) -> dict[str, Any]:
    profile, *_ = preset("accelerators", row["accelerator"]).get("mig", {}).get("profiles", ["1g.10gb"])
    return {"accelerator": {"sharing": "mig", "mig": {"profile": profile}}, **POOL}


# switch -> value -> the model's values, or a function of the row that makes them; {name} becomes the model's name.
Option = dict[str, Any] | Callable[[Row], dict[str, Any]]
SWITCHES: dict[str, dict[str, Option]] = {
    "workload": {
        "Deployment": {},
        "StatefulSet": {"workload": "StatefulSet"},
        "LeaderWorkerSet": {"workload": "LeaderWorkerSet", "parallelism": {"pipeline": 2}},
    },
    "gpus": {"1": {}, "2": {"accelerator": {"count": 2}, "parallelism": {"tensor": 2}}},
    "sharing": {
        "none": {},
        "mig": _slice,
        "timeSlicing": {
            "accelerator": {"sharing": "timeSlicing", "shared": {"replicas": 4}, "memoryFraction": 0.2},
            **POOL,
        },
        "mps": {
            "accelerator": {"sharing": "mps", "shared": {"replicas": 2, "renamed": True}, "memoryFraction": 0.4},
            **POOL,
        },
        "dra": {"accelerator": {"dra": True}},
    },
    "rollout": {
        "surge": {"rollout": {"spareGPU": True}},
        "in place": {"rollout": {"spareGPU": False}},
        "recreate": {"rollout": {"spareGPU": False, "strategy": "Recreate"}},
    },
    "scaling": {
        "one": {"replicas": 1},
        "three": {"replicas": 3},
        "none": {"replicas": 0},
        "autoscaled": {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 6}},
        "busy": {"autoscaling": {"enabled": True, "target": {"requestsInFlight": False, "cpuUtilization": 70}}},
        "keda": {
            "autoscaling": {
                "enabled": True,
                "provider": "keda",
                "minReplicas": 2,
                "maxReplicas": 6,
                "keda": {"serverAddress": "http://prometheus.monitoring"},
            }
        },
    },
    "capacity": {"onDemand": {}, "spot": {"capacity": "spot", "drain": {"preStopSeconds": 2, "requestSeconds": 3}}},
    "source": {
        "claim": {},
        "hub": {"model": {"source": "hf://organisation/name", "tokenSecret": {"name": "hf", "key": "token"}}},
    },
    "disk": {
        "none": {},
        "shared": {"claims": {"state": {**CLAIM, "accessModes": ["ReadWriteMany"]}}},
        "own": {"claims": {"state": {**CLAIM, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}}},
    },
    "service": {
        "ClusterIP": {},
        "NodePort": {"service": {"type": "NodePort", "externalTrafficPolicy": "Local"}},
        "LoadBalancer": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]}},
    },
    "ingress": {
        "off": {},
        "http": {"ingress": {"enabled": True, "host": "{name}.example.com", "hashBy": "$remote_addr"}},
        "grpc": {
            "ingress": {
                "enabled": True,
                "host": "{name}.example.com",
                "grpcHost": "{name}-grpc.example.com",
                "tlsSecret": "tls",
            }
        },
    },
    "gateway": {
        "off": {},
        "http": {"gateway": {"enabled": True, "parentRefs": PARENTS, "hostnames": ["{name}.example.net"]}},
        "grpc": {
            "gateway": {
                "enabled": True,
                "parentRefs": PARENTS,
                "hostnames": ["{name}.example.net"],
                "grpcHostnames": ["{name}-grpc.example.net"],
            }
        },
        "picker": {
            "gateway": {
                "enabled": True,
                "parentRefs": PARENTS,
                "hostnames": ["{name}.example.net"],
                "endpointPicker": {"name": "picker", "port": 9002, "failureMode": "FailOpen"},
            }
        },
    },
    "policy": {"off": {}, "on": {"networkPolicy": {"enabled": True}}},
    "monitoring": {
        "annotations": {},
        "podMonitor": {"monitoring": {"podMonitor": {"enabled": True}}},
        "off": {"monitoring": {"annotations": False}},
    },
    "identity": {
        "default": {},
        "own": {
            "security": {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
            "serviceAccount": {"create": False, "name": "own"},
        },
    },
    "image": {"tag": {}, "digest": {"image": {"digest": "sha256:" + "0123456789abcdef" * 4}}},
    "test": {"on": {}, "off": {"test": {"enabled": False}}},
    "extras": {"none": {}, "all": EXTRA},
}
FACTORS = {
    "runtime": RUNTIMES,
    "accelerator": ACCELERATORS,
    "cloud": CLOUDS,
    **{k: list(v) for k, v in SWITCHES.items()},
}


def _has_two(accelerator: str, gpus: str) -> bool:
    gpu = preset("accelerators", accelerator)
    counts = gpu.get("countLabels", {}).values()
    return gpus == "1" or (gpu.get("gpusPerNode", 2) >= 2 and all("2" in each for each in counts))


# What the chart refuses: each takes the switches it is about, and is true when they go together.
RULES: dict[str, Callable[..., bool]] = {
    "the cloud offers the accelerator": lambda cloud, accelerator: offered(
        preset("clouds", cloud), preset("accelerators", accelerator)
    ),
    "a part of a GPU works alone": lambda gpus, sharing: gpus == "1" or sharing in ("none", "dra"),
    "only some GPUs can be cut into slices": lambda accelerator, sharing: (
        sharing != "mig" or "profiles" in preset("accelerators", accelerator).get("mig", {})
    ),
    "only some GPUs can be claimed": lambda accelerator, sharing: (
        sharing != "dra" or "dra" in preset("accelerators", accelerator)
    ),
    "a node has two of these GPUs": _has_two,
    "the cloud has spot nodes": lambda cloud, capacity: capacity in preset("clouds", cloud),
    "only some runtimes run in groups": lambda runtime, workload: (
        workload != "LeaderWorkerSet" or "multiNode" in preset("runtimes", runtime)
    ),
    "only some runtimes load from the hub": lambda runtime, source: (
        source != "hub" or "hf" in preset("runtimes", runtime)["modelSources"]
    ),
    "only some runtimes say what is in flight": lambda runtime, scaling: (
        scaling not in ("autoscaled", "keda") or "inFlight" in preset("runtimes", runtime)["metrics"]
    ),
    "only some runtimes speak gRPC (Ingress)": lambda runtime, ingress: (
        ingress != "grpc" or "grpc" in preset("runtimes", runtime)["ports"]
    ),
    "only some runtimes speak gRPC (Gateway)": lambda runtime, gateway: (
        gateway != "grpc" or "grpc" in preset("runtimes", runtime)["ports"]
    ),
    "only a Deployment can surge or recreate": lambda workload, rollout: (
        workload == "Deployment" or rollout == "in place" or (workload, rollout) == ("LeaderWorkerSet", "surge")
    ),
    "a disk of one node serves one pod": lambda workload, scaling, disk: (
        disk != "own" or workload == "StatefulSet" or (workload == "Deployment" and scaling in ("one", "none"))
    ),
    "a disk of one node is not shared with the surge": lambda workload, rollout, disk: (
        disk != "own" or workload == "StatefulSet" or rollout != "surge"
    ),
}  # fmt: skip

# What it only warns of, and no sound values file has.
UNWISE: dict[str, Callable[..., bool]] = {
    "a spot pod ends within the notice": lambda cloud, capacity, runtime: (
        capacity != "spot"
        or "spot" not in preset("clouds", cloud)
        or 5 + preset("runtimes", runtime)["lifecycle"]["teardownSeconds"]
        <= preset("clouds", cloud)["spot"]["podGraceSeconds"]
    ),
}


def broken_rules(row: Row) -> list[str]:
    """The rules a row breaks, of those whose switches are all set."""
    return [
        text
        for text, rule in {**RULES, **UNWISE}.items()
        if _about(text) <= row.keys() and not rule(**{k: row[k] for k in _about(text)})
    ]


@functools.cache
def _about(text: str) -> frozenset[str]:
    return frozenset(inspect.signature({**RULES, **UNWISE}[text]).parameters)


@functools.cache
def combinations() -> list[Row]:
    """Rows with every pair of switches that may go together."""
    return rows(FACTORS, lambda row: not broken_rules(row))[0]


def model(row: Row, name: str) -> dict[str, Any]:
    """The values of the model that a row describes."""
    values = minimal_model(row["runtime"], row["accelerator"])
    for switch, options in SWITCHES.items():
        option = options[row[switch]]
        values = over(values, _named(option(row) if callable(option) else option, name))
    return values


def _named(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {k: _named(v, name) for k, v in value.items()}
    if isinstance(value, list):
        return [_named(v, name) for v in value]
    return value.replace("{name}", name) if isinstance(value, str) else value


def combined(cloud: str) -> Case:
    """The combinations on one cloud, as the models of one release."""
    chosen = {f"m{number:03}": row for number, row in enumerate(combinations()) if row["cloud"] == cloud}
    models = {name: model(row, name) for name, row in chosen.items()}
    return Case(f"combined-{cloud}", (as_layer({"cloud": cloud, "models": models}),))
