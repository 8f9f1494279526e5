"""Models share texts where they are alike: beside others, each is rendered exactly as it is alone."""

from __future__ import annotations

from typing import Any

import pytest
from support.expected import over
from support.matrix import minimal_model
from support.objects import model_of
from support.render import render

SCALED = {"enabled": True, "maxReplicas": 6}
# Its probes ask for the model by its name.
TF_SERVING = {"runtime": "tf-serving", "image": {"tag": "2"}, "model": {"source": "pvc://claim/model"}}
# Each differs from a plain model in little: in what one of the shared texts or sizes is made from.
VARIANTS: dict[str, dict[str, Any]] = {
    "tf-serving": TF_SERVING,
    "tf-serving-another": over(TF_SERVING, {"model": {"servedName": "another"}}),
    "two-gpus": {"accelerator": {"count": 2}, "parallelism": {"tensor": 2}},
    "two-gpus-of-half": {
        "accelerator": {"count": 2},
        "parallelism": {"tensor": 2},
        "resources": {"cpu": {"requests": 4, "limits": 5}, "memory": {"requests": "8Gi", "limits": "10Gi"}},
        "storage": {"cache": {"sizeLimit": "32Gi"}},
    },
    "one-gpu": {
        "resources": {"cpu": {"requests": 4, "limits": 5}, "memory": {"requests": "16Gi", "limits": "20Gi"}},
        "storage": {"cache": {"sizeLimit": "64Gi"}},
    },
    "claimed": {"accelerator": {"dra": True}},
    "slice": {"accelerator": {"sharing": "timeSlicing", "shared": {"replicas": 2}, "memoryFraction": 0.4}},
    "spot": {"capacity": "spot"},
    "mixed": {"capacity": "mixed", "autoscaling": SCALED},
    "cpu": {"resources": {"cpu": {"requests": 1, "limits": 2}}},
    "memory": {"resources": {"memory": {"requests": "3Gi", "limits": "4Gi"}}},
    "small": {"model": {"parametersBillion": 8, "weightsDtype": "bf16"}},
    "large": {"model": {"parametersBillion": 14, "weightsDtype": "bf16"}},
    "eight-bits": {"model": {"parametersBillion": 8, "weightsDtype": "fp8"}},
    "small-with-cpu": {
        "model": {"parametersBillion": 8, "weightsDtype": "bf16"},
        "resources": {"cpu": {"requests": 1, "limits": 2}},
    },
    "cache": {"storage": {"cache": {"sizeLimit": "9Gi"}}},
    "claim": {"claims": {"cache": {"mountPath": "/cache", "size": "9Gi", "accessModes": ["ReadWriteMany"]}}},
    "shm": {"shm": {"sizeLimit": "3Gi"}},
    "spool": {"writable": {"spool": {"path": "/var/spool", "sizeLimit": "1Gi"}}},
    "pvc": {"model": {"source": "pvc://claim/model"}},
    "server-downloads": {"storage": {"download": {"by": "server"}}},
    "token": {"model": {"tokenSecret": {"name": "hub", "key": "token"}}},
    "token-of-server": {
        "model": {"tokenSecret": {"name": "hub", "key": "token"}},
        "storage": {"download": {"by": "server"}},
    },
    "slow": {"startup": {"loadSeconds": 900}},
    "patient": {"probes": {"startup": {"failureThreshold": 999}}},
    "liveness": {"probes": {"liveness": {"timeoutSeconds": 9}}},
    "drain": {"drain": {"preStopSeconds": 0, "requestSeconds": 600}},
    "warmup": {"warmup": {"enabled": True}},
    "progress": {"progress": {"liveness": True}},
    "user": {"security": {"runAsUser": 7, "readOnlyRootFilesystem": False}},
    "env": {"env": {"ONE": "1", "HOME": False}},
    "old": {"runtimeVersion": "0.17.0", "image": {"tag": "v0.17.0"}},
    "served": {"model": {"servedName": "another"}},
    "scaled": {"autoscaling": SCALED},
    "scaled-by-four": {"autoscaling": {**SCALED, "target": {"requestsInFlight": 4}}},
    "scaled-by-two-signals": {"autoscaling": {**SCALED, "target": {"kvCacheUsage": 0.5}}},
    "scaled-slowly": {"autoscaling": {**SCALED, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 900}}}},
    "keda": {"autoscaling": {**SCALED, "provider": "keda", "keda": {"serverAddress": "http://prometheus"}}},
    "stateful": {"workload": "StatefulSet", "rollout": {"spareGPU": False}},
    "group": {"workload": "LeaderWorkerSet", "parallelism": {"pipeline": 2}},
    "asked-otherwise": {
        "canary": {"enabled": True, "request": {"method": "GET", "path": "/x", "expect": {"status": 200}}}
    },
    "balloon": {"balloon": {"replicas": 1}, "priorityClassName": "serving"},
    "no-spread": {"spread": {"kubernetes.io/hostname": False}},
    "container": {"container": {"stdin": True}, "pod": {"hostname": "x"}},
}
NAMES = ["a-plain", *(f"m-{variant}" for variant in VARIANTS), "z-plain"]
TOP = {"cloud": "gke", "priorityClasses": {"serving": {"value": 1000}}}


def model(variant: str) -> dict[str, Any]:
    plain = {"model": {"source": "hf://organisation/name"}, "nodeSelector": {"pool": "shared"}}
    return over(over(minimal_model("vllm", "nvidia-l4"), plain), VARIANTS.get(variant, {}))


def together(major: int) -> list[dict[str, Any]]:
    """The objects of all variants in one release, between two plain models."""
    models = {name: model(name[2:]) for name in NAMES}
    return render({"models": models, **TOP}, major=major)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_beside_others_is_as_it_is_alone(major, name):
    alone = render({"models": {name: model(name[2:])}, **TOP}, major=major)
    own = [o for o in alone if model_of(o) == name]
    assert own
    assert [o for o in together(major) if model_of(o) == name] == own
