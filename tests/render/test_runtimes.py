"""What a runtime preset can say, shown on throw-away presets: adding a runtime touches one file and no template."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.expected import over
from support.matrix import RUNTIMES, scenario
from support.objects import Object, env_of, of_kind, one, server
from support.render import RELEASE, render, render_error, scratch_dir
from support.views import Model, models

from gpu_inference.paths import CHART
from gpu_inference.validate.schema_errors import mistakes
from gpu_inference.values.presets import load_presets

POSITIVE = Path(__file__).parents[1] / "schema/positive/runtime-with-files.yaml"
PRESET = {
    **yaml.safe_load(POSITIVE.read_text())["runtimes"]["mine"],
    "description": "Mine",
    "sources": [{"what": "everything", "at": "made up"}],
}


def shown(name: str) -> dict[str, Model]:
    """The models of a values file."""
    return {model.name: model for model in models(scenario(name))}


def objects(preset: dict[str, Any] | None = None, *, major: int = 4, **model: Any) -> list[Object]:
    """A release with one model on the throw-away runtime."""
    values = yaml.safe_load(POSITIVE.read_text())
    changes = {"runtimes": {"mine": preset or {}}, "models": {"a": model}}
    return render(over(values, changes), major=major)


def container(*args: Any, **kwargs: Any) -> Object:
    return server(one(objects(*args, **kwargs), "Deployment", "a"))


def test_files_are_mounted_with_their_placeholders_filled_in(major):
    found = objects(major=major)
    (files,) = of_kind(found, "ConfigMap")
    assert files["metadata"]["name"] == f"{RELEASE}-a-files"
    assert files["data"] == {"server.conf": 'port=8080\n{ left: "alone", drain: 60 }\n'}
    deployment = one(found, "Deployment", "a")
    assert {"name": "files", "mountPath": "/etc/gpu-inference", "readOnly": True} in server(deployment)["volumeMounts"]
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert {"name": "files", "configMap": {"name": f"{RELEASE}-a-files"}} in volumes


def test_a_changed_file_replaces_the_pods(major):
    """The server reads it once, at start."""

    def annotation(**model: Any) -> str:
        template = one(objects(major=major, **model), "Deployment", "a")["spec"]["template"]
        return template["metadata"]["annotations"]["gpu-inference.io/files"]

    assert len(annotation()) == len(hashlib.sha256().hexdigest())
    assert annotation() == annotation(replicas=3)
    assert annotation() != annotation(drain={"requestSeconds": 61})


def test_no_files_no_config_map(major):
    found = render(over(yaml.safe_load(POSITIVE.read_text()), {"models": {"a": {"runtime": "vllm", "model": {
        "source": "pvc://a/b"}}}}), major=major)  # fmt: skip
    assert of_kind(found, "ConfigMap") == []
    template = one(found, "Deployment", "a")["spec"]["template"]
    assert "gpu-inference.io/files" not in template["metadata"]["annotations"]


def test_variables_are_left_out_as_arguments_are(major):
    """Unset, or of another version of the server."""
    assert {"NEW"} == env_of(container(major=major)).keys() & {"NEW", "OLD", "MODEL"}
    assert {"OLD"} == env_of(container(major=major, runtimeVersion="1.1.9")).keys() & {"NEW", "OLD", "MODEL"}
    pvc = container({"modelSources": ["pvc"]}, major=major, model={"source": "pvc://models/x"})
    assert env_of(pvc)["MODEL"]["value"] == "/models/x"


def test_the_images_own_command_gets_no_arguments(major):
    bare = container(major=major)
    assert "command" not in bare and "args" not in bare
    assert container(major=major, extraArgs=["--x"])["args"] == ["--x"]


@pytest.mark.parametrize(
    ("source", "path", "repository"),
    [("image://", None, None), ("pvc://models/x", "/models/x", None), ("hf://o/n", None, "o/n")],
)
def test_where_the_model_comes_from(major, source, path, repository):
    args = [{"flag": f"--{name}", "from": f"model.{name}"} for name in ("path", "repository", "reference")]
    preset = {"modelSources": ["image", "pvc", "hf"], "args": args}
    alone = {"download": {"by": "server"}}
    words = container(preset, major=major, model={"source": source}, storage=alone).get("args", [])
    wanted = {"--path": path, "--repository": repository, "--reference": path or repository}
    assert dict(zip(words[::2], words[1::2], strict=True)) == {k: v for k, v in wanted.items() if v}


@pytest.mark.parametrize(
    ("sigterm", "sleep"), [("ignore", 7), ("closeListener", 7), ("finishInFlight", 7), ("abort", 47)]
)
def test_a_server_that_drops_its_work_is_told_to_stop_when_the_work_is_done(major, sigterm, sleep):
    drain = {"preStopSeconds": 7, "requestSeconds": 40}
    deployment = one(objects({"lifecycle": {"sigterm": sigterm}}, major=major, drain=drain), "Deployment", "a")
    assert server(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"] == sleep
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 47


def test_the_canary_may_use_an_image_with_python(major):
    """Servers written in C++ come without."""
    (pod,) = of_kind(objects(major=major, test={"image": "python:3.13-slim"}), "Pod", hooks=True)
    assert pod["spec"]["containers"][0]["image"] == "python:3.13-slim"


def test_adding_a_runtime_touches_one_file(major):
    """A file put into a copy of the chart renders, is known by name, and ships."""
    chart = scratch_dir(f"one-more-{major}") / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    (chart / "runtimes/throw-away.yaml").write_text(yaml.safe_dump(PRESET))
    values = {"models": {"m": {"runtime": "throw-away", "model": {"source": "image://"},
                               "accelerator": {"type": "nvidia-l4"}}}}  # fmt: skip
    found = render(values, chart=chart, major=major)
    assert server(one(found, "Deployment", "m"))["image"] == "registry.example.com/mine:v1"
    assert one(found, "Service", "m")["spec"]["ports"][0]["targetPort"] == "http"
    assert list(mistakes(PRESET, "runtimeFile")) == []
    assert load_presets("runtimes", chart=chart)["throw-away"] == PRESET
    unknown = {"models": {"m": {**values["models"]["m"], "runtime": "other"}}}
    assert "throw-away" in render_error(unknown, chart=chart, major=major).split("use one of ")[1]


def test_a_file_of_a_runtime_at_its_end_says_so():
    quiet = {key: value for key, value in PRESET.items() if key != "notice"}
    assert list(mistakes(quiet, "runtimeFile"))
    assert list(mistakes({**quiet, "status": "active"}, "runtimeFile")) == []


# What values/runtimes*.yaml show.


def test_every_runtime_is_shown_once_and_those_at_their_end_apart():
    files = {name: [m.spec["runtime"] for m in shown(name).values()] for name in ("runtimes", "runtimes-legacy")}
    assert sorted([*files["runtimes"], *files["runtimes-legacy"]]) == RUNTIMES
    ended = [m.spec["runtime"] for name in files for m in shown(name).values() if m.runtime["status"] != "active"]
    assert ended == files["runtimes-legacy"]


def test_sizes_of_a_container():
    """One GPU, 4 to 8 CPUs, 32 to 48 GiB with shared memory in it."""
    resources = shown("runtimes")["chat"].server["resources"]
    for what, cpu, memory in (("requests", "4", "32Gi"), ("limits", "8", "48Gi")):
        assert (resources[what]["cpu"], resources[what]["memory"]) == (cpu, memory)
        assert resources[what]["nvidia.com/gpu"] == 1


def test_three_ports_on_pod_and_service():
    model = shown("runtimes")["rerank"]
    ports = {"http": 8000, "grpc": 8001, "metrics": 8002}
    assert {p["name"]: p["containerPort"] for p in model.server["ports"]} == ports
    assert {p["name"]: p["port"] for p in model.service["spec"]["ports"]} == ports
    assert {p["targetPort"] for p in model.service["spec"]["ports"]} == set(ports)
    assert "--model-repository=/models/rerank" in model.server["args"]


def test_mixed_precision_is_the_servers_arguments():
    args = shown("runtimes")["chat"].server["args"]
    assert args[args.index("--dtype") + 1] == "bfloat16"
    assert args[args.index("--kv-cache-dtype") + 1] == "fp8"


def test_a_server_of_ones_own_is_told_port_and_path():
    model = shown("runtimes")["embed"]
    assert {n: model.env[n]["value"] for n in ("PORT", "MODEL_PATH")} == {
        "PORT": "8000",
        "MODEL_PATH": "/models/bge-m3",
    }
    assert model.server["securityContext"]["readOnlyRootFilesystem"] is True


def test_names_in_config_files_and_arguments_are_the_same():
    """A file that an argument names is mounted."""
    for case in ("runtimes", "runtimes-legacy"):
        for model in shown(case).values():
            named = {
                a.rsplit("/etc/gpu-inference/")[1] for a in model.server.get("args", []) if "/etc/gpu-inference/" in a
            }
            assert named == set(model.runtime.get("files", {})), model.name
