"""What Helm's merges, YAML and text templates do to values that nobody looks at: a named test a trap, Helm 3 and 4."""

from __future__ import annotations

from typing import Any

import pytest
from support.expected import over
from support.matrix import ACCELERATORS, CLOUDS, RUNTIMES, minimal_model
from support.objects import env_of, maybe, model_of, name, one, server, walk
from support.render import as_layer, load_yaml, render, render_error

from gpu_inference.paths import CHART, VALUES


def deployment(model: dict[str, Any], *, major: int, runtime: str = "vllm", **top: Any) -> dict[str, Any]:
    """The Deployment of one model called m."""
    values = {"models": {"m": over(minimal_model(runtime, "nvidia-l4"), model)}, **top}
    return one(render(values, major=major), "Deployment", "m")


def args(model: dict[str, Any], *, major: int, **kwargs: Any) -> list[str]:
    return server(deployment(model, major=major, **kwargs)).get("args", [])


def env(model: dict[str, Any], *, major: int, **kwargs: Any) -> dict[str, Any]:
    return env_of(server(deployment(model, major=major, **kwargs)))


# Falsy values: sprig's `merge` and `default` take them for missing.


def test_false_survives_a_true_default(major):
    objects = render(
        {"models": {"m": {**minimal_model("vllm", "nvidia-l4"), "replicas": 3, "pdb": {"enabled": False}}}}, major=major
    )
    assert load_yaml(CHART / "values.yaml")["modelDefaults"]["pdb"]["enabled"] is True
    assert maybe(objects, "PodDisruptionBudget", "m") is None


def test_false_survives_a_boolean_of_the_security_context(major):
    got = deployment({"security": {"readOnlyRootFilesystem": False}}, major=major)
    assert server(got)["securityContext"]["readOnlyRootFilesystem"] is False


def test_zero_survives(major):
    assert deployment({"replicas": 0}, major=major)["spec"]["replicas"] == 0


def test_zero_seconds_before_sigterm_survive(major):
    with_zero = deployment({"drain": {"preStopSeconds": 0, "requestSeconds": 60}}, major=major)
    with_ten = deployment({"drain": {"preStopSeconds": 10, "requestSeconds": 60}}, major=major)
    grace = [d["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] for d in (with_zero, with_ten)]
    assert grace[1] - grace[0] == 10
    assert server(with_zero).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) == 0


def test_zero_of_a_stabilization_window_survives(major):
    scaling = {"enabled": True, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0}}}
    objects = render({"models": {"m": {**minimal_model("vllm", "nvidia-l4"), "autoscaling": scaling}}}, major=major)
    hpa = one(objects, "HorizontalPodAutoscaler", "m")
    assert hpa["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0


def test_empty_text_survives(major):
    assert env({"env": {"EMPTY": ""}}, major=major)["EMPTY"]["value"] == ""


def test_empty_text_replaces_a_presets_text(major):
    assert env({}, major=major)["VLLM_NO_USAGE_STATS"]["value"] == "1"
    assert env({"env": {"VLLM_NO_USAGE_STATS": ""}}, major=major)["VLLM_NO_USAGE_STATS"]["value"] == ""


# Merging.


def test_a_model_wins_over_accelerator_runtime_and_defaults(major):
    assert load_yaml(CHART / "accelerators/nvidia-l4.yaml")["defaults"]["resources"]["cpu"]
    model = {"resources": {"cpu": {"requests": 1, "limits": 2}}, "shm": {"sizeLimit": "3Gi"}}
    got = deployment(model, major=major)
    assert str(server(got)["resources"]["limits"]["cpu"]) == "2"
    volumes = got["spec"]["template"]["spec"]["volumes"]
    assert {"medium": "Memory", "sizeLimit": "3Gi"} in [v.get("emptyDir") for v in volumes]


@pytest.mark.parametrize("layers", [("defaults",), ("defaults", "runtime"), ("defaults", "runtime", "accelerator")])
def test_precedence_layer_by_layer(major, layers):
    """Each later layer wins over all before it, in the order the values' documentation gives."""
    top = {
        "defaults": {"modelDefaults": {"env": {"WHO": "defaults"}}},
        "runtime": {"runtimes": {"vllm": {"defaults": {"env": {"WHO": "runtime"}}}}},
        "accelerator": {"accelerators": {"nvidia-l4": {"defaults": {"env": {"WHO": "accelerator"}}}}},
    }
    values: dict[str, Any] = {}
    for layer in layers:
        values |= top[layer]
    assert env({}, major=major, **values)["WHO"]["value"] == layers[-1]
    assert env({"env": {"WHO": "model"}}, major=major, **values)["WHO"]["value"] == "model"


def test_nested_maps_merge_and_keep_their_other_keys(major):
    got = server(deployment({"probes": {"liveness": {"timeoutSeconds": 7}}}, major=major))["livenessProbe"]
    defaults = load_yaml(CHART / "values.yaml")["modelDefaults"]["probes"]["liveness"]
    assert {k: got[k] for k in defaults} == {**defaults, "timeoutSeconds": 7}


def test_lists_are_replaced_whole(major):
    policies = [{"type": "Pods", "value": 1, "periodSeconds": 30}]
    scaling = {"enabled": True, "behavior": {"scaleDown": {"policies": policies}}}
    objects = render({"models": {"m": {**minimal_model("vllm", "nvidia-l4"), "autoscaling": scaling}}}, major=major)
    assert one(objects, "HorizontalPodAutoscaler", "m")["spec"]["behavior"]["scaleDown"]["policies"] == policies


def test_an_empty_map_does_not_clear_what_is_inherited(major):
    assert env({"env": {}}, major=major) == env({}, major=major)


def test_false_removes_an_inherited_entry(major):
    assert "USER" in env({}, major=major)
    assert "USER" not in env({"env": {"USER": False}}, major=major)
    gpu = deployment({"tolerations": {"gpu": False}}, major=major)
    assert "tolerations" not in gpu["spec"]["template"]["spec"]


def test_false_in_an_overlay_removes_and_a_later_one_restores(major):
    base = {"models": {"m": {**minimal_model("vllm", "nvidia-l4"), "env": {"A": "1"}}}}
    off, on = {"models": {"m": {"env": {"A": False}}}}, {"models": {"m": {"env": {"A": "2"}}}}
    for layers, wanted in [([base, off], None), ([base, off, on], "2")]:
        objects = render(layers=[as_layer(layer) for layer in layers], major=major)
        got = env_of(server(one(objects, "Deployment", "m"))).get("A", {}).get("value")
        assert got == wanted


def test_one_models_values_never_leak_to_another(major):
    """mergeOverwrite changes the nested maps of its first argument: every model must get copies."""
    loud = {
        **minimal_model("vllm", "nvidia-l4"),
        "env": {"LEAK": "1", "USER": False},
        "tolerations": {"leak": {"key": "leak", "operator": "Exists"}, "gpu": False},
        "nodeSelector": {"leak": "yes"},
        "probes": {"liveness": {"timeoutSeconds": 9}, "startup": {"failureThreshold": 999}},
        "resources": {"cpu": {"requests": 1, "limits": 3}},
        "podLabels": {"leak": "1"},
        "podAnnotations": {"leak": "1"},
        "volumes": {"leak": {"mount": {"mountPath": "/leak"}, "source": {"emptyDir": {"sizeLimit": "1Mi"}}}},
        "writable": {"leaked": {"path": "/leaked", "sizeLimit": "1Mi"}},
        "extraArgs": ["--leak"],
        "pod": {"priorityClassName": "leak"},
        "container": {"stdin": True},
        "service": {"annotations": {"leak": "1"}},
    }
    quiet = minimal_model("vllm", "nvidia-l4")
    alone = [o for o in render({"models": {"m": quiet}}, major=major) if model_of(o) == "m"]
    for other in ("a", "z"):  # before it and after it
        both = render({"models": {"m": quiet, other: loud}}, major=major)
        assert [o for o in both if model_of(o) == "m"] == alone
        assert "leak" in str(both)


def test_pod_and_container_are_merged_last(major):
    model = {
        "pod": {"priorityClassName": "gpu", "terminationGracePeriodSeconds": 999, "securityContext": {"fsGroup": 7}},
        "container": {"imagePullPolicy": "Never", "resources": {"limits": {"example.com/rdma": 1}}},
    }
    got = deployment(model, major=major)["spec"]["template"]["spec"]
    assert (got["priorityClassName"], got["terminationGracePeriodSeconds"]) == ("gpu", 999)
    assert got["securityContext"]["fsGroup"] == 7
    assert got["securityContext"]["runAsNonRoot"] is True
    assert got["containers"][0]["imagePullPolicy"] == "Never"
    limits = got["containers"][0]["resources"]["limits"]
    assert limits["example.com/rdma"] == 1
    assert limits["nvidia.com/gpu"] == 1


def test_users_presets_need_no_fork(major):
    """A runtime, an accelerator and a cloud of the user's own; and one field of a preset of the chart."""
    vllm = load_yaml(CHART / "runtimes/vllm.yaml")
    l4 = load_yaml(CHART / "accelerators/nvidia-l4.yaml")
    generic = load_yaml(CHART / "clouds/generic.yaml")
    values = {
        "cloud": "mine",
        "runtimes": {"other": {**vllm, "command": ["other"]}, "vllm": {"ports": {"http": 9000}}},
        "accelerators": {"own-gpu": {**l4, "nodeLabels": {"nvidia.com/gpu.product": "OWN"}}},
        "clouds": {"mine": {**generic, "nodeSelector": {"pool": "gpu"}}},
        "models": {"m": minimal_model("other", "own-gpu"), "other": minimal_model("vllm", "nvidia-l4")},
    }
    objects = render(values, major=major)
    m, other = one(objects, "Deployment", "m"), one(objects, "Deployment", "other")
    assert server(m)["command"] == ["other"]
    assert m["spec"]["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "OWN", "pool": "gpu"}
    assert server(other)["ports"][0]["containerPort"] == 9000
    assert server(m)["ports"][0]["containerPort"] == 8000


# Numbers and text.


def test_a_million_is_printed_as_an_integer(major):
    assert "1048576" in args({"model": {"contextLength": 1048576}}, major=major)


def test_no_number_is_ever_printed_as_a_float(major):
    model = {
        "model": {"contextLength": 10000000, "maxConcurrentRequests": 1000000},
        "security": {"runAsUser": 1000720000, "runAsGroup": 1000720000, "fsGroup": 1000720000},
    }
    objects = render({"models": {"m": over(minimal_model("vllm", "nvidia-l4"), model)}}, major=major)
    for obj in objects:
        for path, value in walk(obj):
            assert not isinstance(value, float), f"{name(obj)} {path}: {value}"
            assert "e+0" not in str(value), f"{name(obj)} {path}: {value}"
    got = one(objects, "Deployment", "m")
    assert got["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 1000720000
    assert {"10000000", "1000000"} <= set(server(got)["args"])


def test_a_fraction_stays_a_fraction(major):
    assert "0.85" in args({"accelerator": {"memoryFraction": 0.85}}, major=major)


@pytest.mark.parametrize(
    "text", ["1", "0", "007", "1e3", "1.50", "0x1F", "0o17", "12:30:45", "true", "no", "off", "null", "~", "", " x ",
             "{a: b}", "[1]", "a: b", "#c", "'q'", '"q"', "$(HOME)", "{{ .Values }}", "50%", "*", "&a", "!t", "a\nb",
             "ü€😀", "<>&"],
)  # fmt: skip
def test_text_stays_text(major, text):
    """Whatever a YAML reader might take it for: in the environment, in arguments, labels aside."""
    got = server(deployment({"env": {"T": text}, "extraArgs": [f"--t={text}"]}, major=major))
    assert env_of(got)["T"]["value"] == text
    assert got["args"][-1] == f"--t={text}"


@pytest.mark.parametrize("text", ["1", "007", "true", "off", "1e3"])
def test_label_and_annotation_text_stays_text(major, text):
    model = {
        "podLabels": {"example.com/l": text},
        "podAnnotations": {"example.com/a": text},
        "nodeSelector": {"example.com/n": text},
        "model": {"source": "hf://o/n", "servedName": text, "revision": text},
        "service": {"annotations": {"example.com/s": text}},
    }
    objects = render({"models": {"m": over(minimal_model("vllm", "nvidia-l4"), model)}}, major=major)
    pod = one(objects, "Deployment", "m")["spec"]["template"]
    assert pod["metadata"]["labels"]["example.com/l"] == text
    assert pod["metadata"]["annotations"]["example.com/a"] == text
    assert pod["spec"]["nodeSelector"]["example.com/n"] == text
    assert pod["spec"]["containers"][0]["args"].count(text) == 2 + (text == "1") * 2  # and the parallelism
    assert one(objects, "Service", "m")["metadata"]["annotations"]["example.com/s"] == text


def test_what_is_unset_leaves_no_trace(major):
    """`get` on a missing key gives "": an unset field must not become `--flag=` or `--flag ""`."""
    for runtime in RUNTIMES:
        got = [
            *args({}, major=major, runtime=runtime),
            *(e["value"] for e in env({}, major=major, runtime=runtime).values() if "value" in e),
        ]
        assert "" not in got
        assert not [a for a in got if a.endswith("=")]
        assert "--quantization" not in got


def test_a_set_field_reaches_the_server_once(major):
    got = args({"model": {"quantization": "fp8", "dtype": "bfloat16"}}, major=major)
    assert got[got.index("--quantization") + 1] == "fp8"
    assert got.count("--dtype") == 1


def test_an_argument_follows_the_servers_version(major):
    """An old engine exits on a flag it does not know."""
    new = args({"runtimeVersion": "0.18.0"}, major=major)
    old = args({"runtimeVersion": "0.17.9"}, major=major)
    assert "--shutdown-timeout" in new
    assert "--shutdown-timeout" not in old


# Names YAML 1.1 reads as something else.


@pytest.mark.parametrize("key", ["off", "on", "yes", "no", "true", "null", "y", "n", "1", "1e3"])
def test_a_name_that_yaml_reads_otherwise_is_refused(major, key):
    model = "{runtime: vllm, model: {source: 'hf://a/b'}, accelerator: {type: nvidia-l4}}"
    assert render_error(f"models:\n  {key}: {model}\n", major=major)


def test_a_quoted_name_that_yaml_reads_otherwise_is_refused(major):
    """Quoted it is text here, and a boolean in the next tool that reads the rendered names."""
    assert "'off'" in render_error({"models": {"off": minimal_model("vllm", "nvidia-l4")}}, major=major)


# Data without null: its meaning changed in Helm 3.19.5, 4.0 and 4.2.


@pytest.mark.parametrize(
    "file",
    [CHART / "values.yaml", *sorted(VALUES.glob("*.yaml"))]
    + [CHART / kind / f"{stem}.yaml" for kind, stems in
       (("runtimes", RUNTIMES), ("accelerators", ACCELERATORS), ("clouds", CLOUDS)) for stem in stems],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)  # fmt: skip
def test_no_null_in_data(file):
    assert [path for path, value in walk(load_yaml(file)) if value is None] == []


def test_null_is_refused(major):
    """Where Helm does not drop it first, the schema says no."""
    values = {"models": {"m": {**minimal_model("vllm", "nvidia-l4"), "env": {"A": None}}}}
    assert "env" in render_error(values, major=major)
