"""Bad values fail before anything is rendered: what is wrong, where, and the fix, every problem at once."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest
from support.expected import over
from support.matrix import ACCELERATORS, CLOUDS, RUNTIMES, minimal_model, offered
from support.render import load_yaml, render, render_error, scratch_dir
from support.workload_problems import WORKLOAD_PROBLEMS

from gpu_inference.errors import UserError
from gpu_inference.paths import CHART

CHECKS = sorted((CHART / "templates/_lib").glob("check*.tpl"))


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
    "maximum below minimum": (
        m(autoscaling={"enabled": True, "minReplicas": 5, "maxReplicas": 2}),
        "models.m.autoscaling.maxReplicas: 2 is less than minReplicas, 5",
        "raise maxReplicas",
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
        "models.m.service.nodePorts.grpc: vllm has no port of this name",
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
    "server of unknown version": (
        {"runtimes": {"own": without(VLLM, "defaults", "runtimeVersion")}, **m(runtime="own")},
        "models.m.runtimeVersion: is not set, and --shutdown-timeout depends on it",
        "runtimes.own.defaults.runtimeVersion",
    ),
    "variable of a preset that leads nowhere": (
        {"runtimes": {"vllm": {"env": {"X": {"from": "model.nothing"}}}}, **m()},
        "runtimes.vllm.env.X.from: model.nothing of model m is not set",
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


PROBLEMS |= WORKLOAD_PROBLEMS


def problem_lines(text: str) -> list[str]:
    """The lines about problems: a path, what is wrong, the fix."""
    return [line for line in text.splitlines() if ". Fix: " in line]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problem_names_path_and_fix(problem, major):
    values, what, fix = PROBLEMS[problem]
    text = render_error(values, major=major)
    (line,) = [line for line in problem_lines(text) if what in line]
    assert fix in line.split(". Fix: ")[1]
    assert problem_lines(text) == [line], "one problem, one line"


def test_unknown_names_come_with_the_known_ones(major):
    for values, known in [
        (m(runtime="x"), RUNTIMES),
        (m(accelerator={"type": "x"}), ACCELERATORS),
        ({**m(), "cloud": "x"}, CLOUDS),
    ]:
        (line,) = problem_lines(render_error(values, major=major))
        assert f"use one of {', '.join(known)}, or" in line


def test_own_presets_are_among_the_known_ones():
    text = render_error({**m(runtime="x"), "runtimes": {"own": VLLM}})
    assert "own, " in text


def test_all_problems_at_once(major):
    """Of several models, and of one: no second run to learn of the next."""
    values = {
        "models": {
            "a": model(service={"port": 8001}, runtime="triton", extraArgs=["--http-port=1"]),
            "b": model(capacity="spot", env={"CUDA_VISIBLE_DEVICES": "0"}),
        }
    }
    lines = problem_lines(render_error(values, major=major))
    assert {line.split(": ")[0] for line in lines} == {
        "models.a.service.port",
        "models.a.extraArgs[0]",
        "models.b.capacity",
        "models.b.env.CUDA_VISIBLE_DEVICES",
    }


def test_all_unknown_names_at_once(major):
    values = {"cloud": "x", "models": {"a": model(runtime="y"), "b": model(accelerator={"type": "z"})}}
    lines = problem_lines(render_error(values, major=major))
    assert {line.split(": ")[0] for line in lines} == {"cloud", "models.a.runtime", "models.b.accelerator.type"}


def test_the_check_renders_first(major):
    """A template that stumbles over bad values would hide the message: here every other one stumbles."""
    chart = scratch_dir(f"stumbling-{major}") / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    for path in (chart / "templates").rglob("*.yaml"):
        if "check" not in path.parts:
            path.write_text('{{ fail "a template came before the check" }}\n')
    assert "before the check" in render_error(m(), chart=chart, major=major)
    text = render_error(m(capacity="spot"), chart=chart, major=major)
    assert "before the check" not in text and problem_lines(text)


def test_every_problem_the_chart_knows_is_provoked_here():
    """Each `Fix:` in the check templates appears in the output of some case above."""
    said = "\n".join(render_error(values) for values, _, _ in PROBLEMS.values())
    said += render_error(m(), release="my.llm")
    fixes = {
        (path.name, re.split(r"\{\{", line.split("Fix: ")[1])[0].strip())
        for path in CHECKS
        for line in path.read_text().splitlines()
        if ". Fix: " in line and not line.lstrip().startswith(("gpu-inference.check", "{{/*"))
    }
    assert fixes
    assert [f"{file}: {fix}" for file, fix in sorted(fixes) if f"Fix: {fix}" not in said] == []


# The schema: types, ranges, typos.


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"modls": {}}, "modls"),
        (m(replcas=2), "replcas"),
        (m(model={"contextLenght": 1}), "contextLenght"),
        (m(probes={"liveness": {"timeoutSecond": 1}}), "timeoutSecond"),
        (m(replicas="many"), "/models/m/replicas"),
        (m(accelerator={"count": 0}), "/models/m/accelerator/count"),
        (m(capacity="preemptible"), "/models/m/capacity"),
        (m(service={"port": 70000}), "/models/m/service/port"),
        (m(env={"1BAD": "x"}), "1BAD"),
        (m(env={"A": 1}), "/models/m/env/A"),
        (m(pdb={"maxUnavailable": 0}), "/models/m/pdb/maxUnavailable"),
        ({"models": {"Bad_Name": model()}}, "Bad_Name"),
        ({"models": [model()]}, "/models"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_schema_refuses(values, named, major):
    assert named in render_error(values, major=major)


# Presets.


def broken_chart(name: str, text: str) -> Any:
    chart = scratch_dir(f"broken-{name}") / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    (chart / "runtimes/vllm.yaml").write_text(text)
    return chart


def test_a_preset_that_is_no_yaml_is_named(major):
    """`fromYaml` never fails: it returns a map with the key Error."""
    text = render_error(m(), chart=broken_chart("yaml", "a: [\n"), major=major)
    assert "runtimes/vllm.yaml is not valid YAML" in text


def test_an_empty_preset_is_an_unknown_one(major):
    """.Files.Get of a missing file is "", as of an empty one."""
    text = render_error(m(), chart=broken_chart("empty", ""), major=major)
    assert 'models.m.runtime: "vllm" is not a known runtime' in text


@pytest.mark.parametrize(
    ("kind", "stem", "keys"),
    [
        *(("runtimes", "vllm", keys) for keys in
          [("modelSources",), ("command",), ("args",), ("ports", "http"), ("probes", "readiness"), ("metrics", "port"),
           ("lifecycle",)]),
        *(("accelerators", "nvidia-l4", (key,)) for key in ("resource", "nodeLabels")),
        *(("clouds", "generic", (key,)) for key in ("productLabels", "nodeSelector", "tolerations")),
    ],
    ids=lambda v: ".".join(v) if isinstance(v, tuple) else v,
)  # fmt: skip
def test_an_incomplete_preset_of_ones_own_is_named(kind, stem, keys):
    """Words instead of a nil pointer in some template."""
    chosen = {"runtimes": {"runtime": "own"}, "accelerators": {"accelerator": {"type": "own"}}, "clouds": {}}[kind]
    values = {kind: {"own": without(load_yaml(CHART / kind / f"{stem}.yaml"), *keys)}, **m(**chosen)}
    if kind == "clouds":
        values["cloud"] = "own"
    text = render_error(values)
    assert f"{kind}.own: lacks {'.'.join(keys)}" in text
    assert f"Fix: set it as chart/{kind}/*.yaml do" in text


@pytest.mark.parametrize("cloud", CLOUDS)
def test_accelerators_a_cloud_does_not_offer_are_refused_or_selected(cloud):
    """Never a pod that would land on any GPU."""
    preset = load_yaml(CHART / "clouds" / f"{cloud}.yaml")
    for accelerator in ACCELERATORS:
        if not offered(preset, load_yaml(CHART / "accelerators" / f"{accelerator}.yaml")):
            values = {"cloud": cloud, **m(accelerator={"type": accelerator})}
            assert f"marks nodes with {accelerator}" in render_error(values)
            values["models"]["m"]["nodeSelector"] = {"node.kubernetes.io/instance-type": "own"}
            assert render(values)


# Names.


@pytest.mark.parametrize("release", ["1", "1e3", "off", "true", "0x1"])
def test_a_release_whose_name_looks_like_something_else(release, major):
    """Helm allows it: either its labels are text, or the chart says what to do."""
    try:
        objects = render(m(), release=release, major=major)
    except UserError as error:
        assert "fullnameOverride" in error.message
        objects = render({"fullnameOverride": "llm", **m()}, release=release, major=major)
    for obj in objects:
        assert obj["metadata"]["labels"]["app.kubernetes.io/instance"] == release
        if obj["kind"] == "Service":
            assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", obj["metadata"]["name"])
            assert obj["spec"]["selector"]["app.kubernetes.io/instance"] == release


def test_a_release_with_a_dot_in_its_name(major):
    """Helm allows it, Services do not."""
    assert "fullnameOverride" in render_error(m(), release="my.llm", major=major)
    assert render({"fullnameOverride": "llm", **m()}, release="my.llm", major=major)
