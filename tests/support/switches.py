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
from .pairwise import Pair, Row, rows
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


def _model(source: str) -> Callable[[Row], dict[str, Any]]:
    def made(row: Row) -> dict[str, Any]:
        ending = preset("runtimes", row["runtime"]).get("modelFile")
        return {"model": {"source": source, **({"file": f"model{ending}"} if ending else {})}}

    return made


def _hub(row: Row) -> dict[str, Any]:
    return over(_model("hf://organisation/name")(row), {"model": {"tokenSecret": {"name": "hf", "key": "token"}}})


# Versions that still build engines, and images of them.
BUILDERS = {
    "trtllm": {"runtimeVersion": "1.2.1", "image": {"tag": "1.2.1"}},
    "triton": {"runtimeVersion": "2.64.0", "image": {"tag": "25.12-trtllm-python-py3"}},
}


def _engine(row: Row) -> dict[str, Any]:
    engine = {"enabled": True, "source": "pvc://checkpoints/m", "claim": {"name": "engines"}}
    return {**BUILDERS.get(row["runtime"], {}), "engine": engine}


SHORT = {"drain": {"preStopSeconds": 2, "requestSeconds": 3}}  # fits into any cloud's notice
SCHEMES = {"claim": "pvc", "hub": "hf", "bucket": "s3", "registry": "oci"}

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
    "capacity": {
        "onDemand": {},
        "spot": {"capacity": "spot", **SHORT},
        "fallback": {"capacity": "spot", "spot": {"fallback": True}, **SHORT},
        "mixed": {
            "capacity": "mixed",
            "replicas": 2,
            "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 6},
            **SHORT,
        },
    },
    "balloon": {"off": {}, "on": {"balloon": {"replicas": 1}}},
    "spread": {"default": {}, "zones": {"spread": {"topology.kubernetes.io/zone": "DoNotSchedule"}}},
    "source": {
        "claim": {},
        "hub": _hub,
        "bucket": _model("s3://bucket/model"),
        "registry": _model("oci://registry.example.com/models/m:1"),
    },
    "download": {
        "pod": {},
        "job": {
            "storage": {"download": {"by": "job"}},
            "claims": {"cache": {"mountPath": "/cache", "size": "10Gi", "accessModes": ["ReadWriteMany"]}},
        },
    },
    "engine": {"off": {}, "on": _engine},
    "prePull": {"off": {}, "on": {"prePull": True}},
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
        "serviceMonitor": {"monitoring": {"serviceMonitor": {"enabled": True}}},
        "rules": {"monitoring": {"rules": {"enabled": True}, "dashboard": True}},
        "off": {"monitoring": {"annotations": False}},
    },
    "warmup": {"off": {}, "on": {"warmup": {"enabled": True}}},
    "canary": {"off": {}, "on": {"canary": {"enabled": True}}},
    "progress": {
        "off": {},
        "readiness": {"progress": {"readiness": True}},
        "both": {"progress": {"readiness": True, "liveness": True}},
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
# Every pair of these is tried. The other switches change with each row, as far as the rules let them.
PAIRED = (
    "workload",
    "gpus",
    "sharing",
    "rollout",
    "scaling",
    "capacity",
    "source",
    "download",
    "disk",
    "ingress",
    "gateway",
    "policy",
    "identity",
)
FACTORS = {
    "runtime": RUNTIMES,
    "accelerator": ACCELERATORS,
    "cloud": CLOUDS,
    **{switch: list(SWITCHES[switch]) for switch in PAIRED},
}


def _has_two(accelerator: str, gpus: str) -> bool:
    gpu = preset("accelerators", accelerator)
    counts = gpu.get("countLabels", {}).values()
    return gpus == "1" or (gpu.get("gpusPerNode", 2) >= 2 and all("2" in each for each in counts))


def _has_python(runtime: str) -> bool:
    return bool(preset("runtimes", runtime).get("python", True))


# What the chart refuses: each takes the switches it is about, and is true when they go together.
RULES: dict[str, Callable[..., bool]] = {
    "the cloud offers the accelerator": lambda cloud, accelerator: offered(
        preset("clouds", cloud), preset("accelerators", accelerator)
    ),
    "a part of a GPU works alone": lambda gpus, sharing: gpus == "1" or sharing in ("none", "dra"),
    "the pods of a group have whole GPUs": lambda workload, sharing: (
        workload != "LeaderWorkerSet" or sharing in ("none", "dra")
    ),
    "only some GPUs can be cut into slices": lambda accelerator, sharing: (
        sharing != "mig" or "profiles" in preset("accelerators", accelerator).get("mig", {})
    ),
    "only some GPUs can be claimed": lambda accelerator, sharing: (
        sharing != "dra" or "dra" in preset("accelerators", accelerator)
    ),
    "a balloon of claimed GPUs does not give way": lambda sharing, balloon: (sharing, balloon) != ("dra", "on"),
    "a node has two of these GPUs": _has_two,
    "the cloud has spot nodes": lambda cloud, capacity: capacity == "onDemand" or "spot" in preset("clouds", cloud),
    "mixed capacity is a Deployment": lambda capacity, workload: capacity != "mixed" or workload == "Deployment",
    "mixed capacity is an HPA's": lambda capacity, scaling: (capacity, scaling) != ("mixed", "keda"),
    "mixed capacity scales by what is in flight": lambda runtime, capacity, scaling: (
        capacity != "mixed" or scaling == "busy" or "inFlight" in preset("runtimes", runtime)["metrics"]
    ),
    "mixed capacity shares no disk of one node": lambda capacity, disk: (capacity, disk) != ("mixed", "own"),
    "only some runtimes run in groups": lambda runtime, workload: (
        workload != "LeaderWorkerSet" or "multiNode" in preset("runtimes", runtime)
    ),
    "only some runtimes load from there": lambda runtime, source: (
        source == "claim" or {SCHEMES[source], "pvc"} & {*preset("runtimes", runtime)["modelSources"]} != set()
        if source != "hub"
        else "hf" in preset("runtimes", runtime)["modelSources"]
    ),
    "a Job fills no claims of a StatefulSet": lambda workload, download: (
        download == "pod" or workload != "StatefulSet"
    ),
    "only some runtimes build engines": lambda runtime, engine: engine == "off" or runtime in BUILDERS,
    "what builds engines is too old to say what is in flight": lambda runtime, engine, scaling, capacity: (
        (runtime, engine) != ("trtllm", "on")
        or (scaling not in ("autoscaled", "keda") and (capacity != "mixed" or scaling == "busy"))
    ),
    "a warm-up asks for work, in Python": lambda runtime, warmup: (
        warmup == "off"
        or (_has_python(runtime) and preset("runtimes", runtime)["canary"]["method"] == "POST")
    ),
    "only some runtimes tell their progress": lambda runtime, progress: (
        progress == "off"
        or (_has_python(runtime) and "progress" in preset("runtimes", runtime)["metrics"])
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
    "a group keeps what it downloads": lambda workload, source, download: (
        workload != "LeaderWorkerSet" or source not in ("hub", "bucket") or download == "job"
    ),
    "a spot pod ends within the notice": lambda cloud, capacity, runtime: (
        capacity == "onDemand"
        or "spot" not in preset("clouds", cloud)
        or 5 + preset("runtimes", runtime)["lifecycle"]["teardownSeconds"]
        <= preset("clouds", cloud)["spot"]["podGraceSeconds"]
    ),
}


def broken_rules(row: Row) -> list[str]:
    """The rules a row breaks, of those whose switches are all set."""
    return [
        text
        for text, about, rule in _rules()
        if all(switch in row for switch in about) and not rule(*(row[switch] for switch in about))
    ]


@functools.cache
def _rules() -> list[tuple[str, tuple[str, ...], Callable[..., bool]]]:
    """(text, switches it is about, rule) of all."""
    return [(text, tuple(inspect.signature(rule).parameters), rule) for text, rule in {**RULES, **UNWISE}.items()]


@functools.cache
def combinations() -> list[Row]:
    """Rows with every pair of the paired switches that may go together, and the others in turn."""
    return [_completed(row, number) for number, row in enumerate(paired()[0])]


@functools.cache
def paired() -> tuple[list[Row], set[Pair]]:
    """Rows with every pair of FACTORS that may go together, and the pairs that may not."""
    return rows(FACTORS, lambda row: not broken_rules(row))


def _completed(row: Row, number: int) -> Row:
    for place, switch in enumerate(sorted(SWITCHES.keys() - {*PAIRED})):
        options = list(SWITCHES[switch])
        # Steps of different lengths, so that two switches do not always change together.
        turn = number * (place + 1) + number // len(options)
        in_turn = (options[(turn + more) % len(options)] for more in range(len(options)))
        row = next(tried for option in in_turn if not broken_rules(tried := {**row, switch: option}))
    return row


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
