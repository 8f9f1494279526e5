"""What the chart refuses: values, the path the message names, and words of its fix."""

from __future__ import annotations

from typing import Any

from gpu_inference.paths import CHART

from .capacity_problems import CAPACITY_PROBLEMS
from .expected import over
from .health_problems import HEALTH_PROBLEMS
from .job_problems import JOB_PROBLEMS
from .matrix import minimal_model
from .operator_problems import OPERATOR_PROBLEMS
from .render import load_yaml
from .scaling_problems import SCALING_PROBLEMS
from .sharing_problems import SHARING_PROBLEMS
from .storage_problems import STORAGE_PROBLEMS
from .workload_problems import WORKLOAD_PROBLEMS

VLLM = load_yaml(CHART / "runtimes/vllm.yaml")


def without(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The data without what is at the end of the keys."""
    first, *rest = keys
    if not rest:
        return {k: v for k, v in data.items() if k != first}
    return {**data, first: without(data[first], *rest)}


def model(**changes: Any) -> dict[str, Any]:
    return over(minimal_model("vllm", "nvidia-l4"), changes)


def m(**changes: Any) -> dict[str, Any]:
    """Values with one model called m."""
    return {"models": {"m": model(**changes)}}


# Values -> what the message must name: the path, and words of the fix.
PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "runtime unset": ({"models": {"m": {**model(), "runtime": ""}}}, "models.m.runtime: is not set", "use one of"),
    "runtime unknown": (m(runtime="vlm"), 'models.m.runtime: "vlm" is not a known runtime', "use one of"),
    "accelerator unset": (m(accelerator={"type": ""}), "models.m.accelerator.type: is not set", "use one of"),
    "accelerator unknown": (m(accelerator={"type": "nvidia-l5"}), "models.m.accelerator.type", "use one of"),
    "cloud unknown": ({**m(), "cloud": "gcp"}, 'cloud: "gcp" is not a known cloud', "use one of"),
    "source unset": (m(model={"source": ""}), "models.m.model.source: is not set", "hf:// or pvc://"),
    "source of another runtime": (
        m(runtime="triton", model={"source": "hf://a/b"}),
        'models.m.model.source: "hf://a/b" cannot be loaded by triton',
        "use one of pvc://",
    ),
    "image without version": (
        {"runtimes": {"own": without(VLLM, "defaults", "image", "tag")}, **m(runtime="own")},
        "models.m.image.tag: is not set",
        "runtimes.own.defaults.image.tag",
    ),
    "parallelism": (
        m(accelerator={"count": 4}, parallelism={"tensor": 2}),
        "models.m.parallelism: tensor 2 x pipeline 1 = 2, but accelerator.count is 4",
        "make the product equal",
    ),
    "no version": (
        {"runtimes": {"own": without(VLLM, "defaults", "runtimeVersion")}, **m(runtime="own")},
        "models.m.runtimeVersion: is not set",
        "runtimes.own.defaults.runtimeVersion",
    ),
    "layers of a runtime that cannot": (
        {
            "runtimes": {"own": {**VLLM, "args": [{"flag": "--shards", "from": "parallelism.tensor"}]}},
            **m(runtime="own", accelerator={"count": 2}, parallelism={"pipeline": 2}),
        },
        "models.m.parallelism.pipeline: own cannot be told",
        "set it to 1, and tensor to 2",
    ),
    "no metric yet": (
        {
            "runtimes": {"vllm": {"metrics": {"since": "0.20.0"}}},
            **m(runtimeVersion="0.19.3", autoscaling={"enabled": True}),
        },
        "models.m.autoscaling.enabled: vllm 0.19.3 has no metric",
        "use 0.20.0 or newer",
    ),
    "GPU the cloud has not": (
        {"cloud": "karpenter", **m(accelerator={"type": "amd-mi300x"})},
        "models.m.nodeSelector: on karpenter nothing is known that marks nodes with amd-mi300x",
        "select them yourself",
    ),
    "spot without marks": (m(capacity="spot"), "models.m.capacity: how generic marks spot nodes", "set cloud"),
    "toleration of everything": (
        m(tolerations={"all": {"operator": "Exists"}}),
        "models.m.tolerations.all: has no key",
        "name the taint's key",
    ),
    "toleration of everything in pod": (
        m(pod={"tolerations": [{"operator": "Exists"}]}),
        "models.m.pod.tolerations",
        "name the taint's key",
    ),
    "name that selects a metric": (
        m(runtime="triton", model={"servedName": "my/model"}, autoscaling={"enabled": True}),
        'models.m.model.servedName: "my/model"',
        "use letters",
    ),
    "port taken": (m(runtime="triton", service={"port": 8001}), "models.m.service.port: 8001 is the grpc", "another"),
    "no load balancer": (
        m(service={"loadBalancerSourceRanges": ["203.0.113.0/24"]}),
        "models.m.service.loadBalancerSourceRanges: a ClusterIP Service takes none",
        "set type to LoadBalancer, or",
    ),
    "port of nodes without a port": (
        m(service={"type": "NodePort", "nodePorts": {"grpc": 30081}}),
        "models.m.service.nodePorts.grpc: vllm publishes no port of this name",
        "use http",
    ),
    "nobody may scrape": (
        m(networkPolicy={"enabled": True, "monitoringFrom": []}, autoscaling={"enabled": True}),
        "models.m.networkPolicy.monitoringFrom: is empty",
        "name Prometheus",
    ),
    "no host": (m(ingress={"enabled": True}), "models.m.ingress.host: is not set", "name that clients use"),
    "no gRPC": (
        m(ingress={"enabled": True, "host": "a.b", "grpcHost": "b.b", "tlsSecret": "tls"}),
        "models.m.ingress.grpcHost: vllm has no port called grpc",
        "set runtimes.vllm.ports.grpc",
    ),
    "gRPC without TLS": (
        m(runtime="triton", ingress={"enabled": True, "host": "a.b", "grpcHost": "b.b"}),
        "models.m.ingress.tlsSecret: is not set, and gRPC needs HTTP/2",
        "name the Secret",
    ),
    "one host for both": (
        m(runtime="triton", ingress={"enabled": True, "host": "a.b", "grpcHost": "a.b", "tlsSecret": "tls"}),
        "models.m.ingress.grpcHost: a.b/ leads to m already",
        "another host or path",
    ),
    "requests cut off": (
        m(ingress={"enabled": True, "host": "a.b", "timeoutSeconds": 60}),
        "models.m.ingress.timeoutSeconds: 60 would cut off the longest requests",
        "raise it",
    ),
    "no Gateway": (m(gateway={"enabled": True}), "models.m.gateway.parentRefs: is empty", "name the Gateway"),
    "one route for two models": (
        {"models": {name: model(gateway={"enabled": True, "parentRefs": [{"name": "g"}]}) for name in ("a", "b")}},
        "models.b.gateway.hostnames: */ leads to a already",
        "another host or path",
    ),
    "one host name for both routes": (
        m(
            runtime="triton",
            gateway={"enabled": True, "parentRefs": [{"name": "g"}], "hostnames": ["a.b"], "grpcHostnames": ["a.b"]},
        ),
        "models.m.gateway.grpcHostnames: a.b/ leads to m already",
        "another host or path",
    ),
    "gRPC route without gRPC": (
        m(gateway={"enabled": True, "parentRefs": [{"name": "g"}], "grpcHostnames": ["a.b"]}),
        "models.m.gateway.grpcHostnames: vllm has no port called grpc",
        "remove it",
    ),
    "requests cut off by a Gateway": (
        m(gateway={"enabled": True, "parentRefs": [{"name": "g"}], "timeoutSeconds": 5}),
        "models.m.gateway.timeoutSeconds: 5 would cut off",
        "remove it",
    ),
    "no account": (m(serviceAccount={"create": False}), "models.m.serviceAccount.name: is not set", "existing"),
    "flag of the chart": (
        m(extraArgs=["--max-model-len=4096"]),
        "models.m.extraArgs[0]: --max-model-len is set by the chart",
        "set model.contextLength instead",
    ),
    "flag of the chart without a value of its own": (
        m(extraArgs=["--seed", "1", "--host", "::"]),
        "models.m.extraArgs[2]: --host",
        "remove it",
    ),
    "devices": (m(env={"NVIDIA_VISIBLE_DEVICES": "all"}), "models.m.env.NVIDIA_VISIBLE_DEVICES", "remove it"),
    "memory limit": (
        m(resources={"memory": {"requests": "32Gi", "limits": "16Gi"}}),
        "models.m.resources.memory.limits: 16Gi is less",
        "raise it",
    ),
    "cpu limit": (m(resources={"cpu": {"requests": 8, "limits": 4}}), "models.m.resources.cpu.limits: 4", "raise it"),
    "volume twice": (
        m(volumes={"shm": {"mount": {"mountPath": "/x"}, "source": {"emptyDir": {}}}}),
        "models.m.volumes.shm: another volume has this name",
        "another one",
    ),
    "mount twice": (
        m(volumes={"x": {"mount": {"mountPath": "/dev/shm"}, "source": {"emptyDir": {}}}}),
        "models.m.volumes.x: /dev/shm is where shm is mounted",
        "another path",
    ),
    "mount of the runtime's files": (
        m(volumes={"x": {"mount": {"mountPath": "/etc/gpu-inference"}, "source": {"emptyDir": {}}}}),
        "models.m.volumes.x: /etc/gpu-inference is where files is mounted",
        "another path",
    ),
    "writable twice": (m(writable={"x": {"path": "/tmp", "sizeLimit": "1Gi"}}), "/tmp is where", "another path"),
    "volume without a source": (
        m(volumes={"x": {"mount": {"mountPath": "/x"}}}),
        "models.m.volumes.x: is not whole",
        "mount.mountPath and source",
    ),
    "directory without a size": (m(writable={"x": {"path": "/x"}}), "models.m.writable.x: is not whole", "sizeLimit"),
    "label that selects": (
        m(podLabels={"app.kubernetes.io/name": "x"}),
        "models.m.podLabels.app.kubernetes.io/name: is how the Service finds the pods",
        "another label",
    ),
    "startup shorter than loading": (
        m(startup={"loadSeconds": 100}, probes={"startup": {"periodSeconds": 5, "failureThreshold": 19}}),
        "models.m.probes.startup.failureThreshold: allows 95 s, and loading takes 100 s",
        "remove it, or raise it",
    ),
    "GPUs of the container": (
        m(container={"resources": {"requests": {"nvidia.com/gpu": 2}}}),
        "models.m.container.resources.requests.nvidia.com/gpu",
        "set accelerator.count",
    ),
    "variable of a preset that leads nowhere": (
        {"runtimes": {"vllm": {"env": {"X": {"from": "nothing.there"}}}}, **m()},
        "runtimes.vllm.env.X.from: no model has nothing.there",
        "name a key",
    ),
    "selector of a preset that leads nowhere": (
        {"runtimes": {"vllm": {"metrics": {"inFlight": {"selector": {"x": "nothing.there"}}}}}, **m()},
        "runtimes.vllm.metrics.inFlight.selector.x: nothing.there of model m is not set",
        "name a key",
    ),
    "containers": (m(pod={"containers": [{"name": "x"}]}), "models.m.pod.containers", "use container"),
    "volumes": (m(pod={"volumes": []}), "models.m.pod.volumes", "use volumes"),
    "arguments": (m(container={"args": ["x"]}), "models.m.container.args", "use extraArgs"),
    "long name": (
        {"fullnameOverride": "a-name-that-leaves-hardly-any-room", **{"models": {"x" * 30: model()}}},
        "characters long",
        "shorten the model's name",
    ),
    "no metric": (
        {
            "runtimes": {"own": without(VLLM, "metrics", "inFlight")},
            **m(runtime="own", autoscaling={"enabled": True}),
        },
        "models.m.autoscaling.enabled: own has no metric of requests in flight",
        "set it to false",
    ),
}  # fmt: skip


PROBLEMS |= WORKLOAD_PROBLEMS | HEALTH_PROBLEMS | SCALING_PROBLEMS | OPERATOR_PROBLEMS
PROBLEMS |= SHARING_PROBLEMS | STORAGE_PROBLEMS | CAPACITY_PROBLEMS | JOB_PROBLEMS
