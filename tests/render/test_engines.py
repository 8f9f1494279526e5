"""Engines: what the Job builds, that it is built once, and that the server waits for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.expected import over
from support.job_problems import OWN, engine, triton
from support.matrix import scenario
from support.objects import containers, env_of, maybe, of_kind, one
from support.render import load_yaml, render, render_error, scratch_dir

from gpu_inference.paths import CHART, VALUES

SCENARIO = load_yaml(VALUES / "engine-build.yaml")
# What each precision is to the converter of TensorRT-LLM 1.2, examples/quantization/quantize.py.
PRECISIONS = {
    "fp16": ("float16", "full_prec"),
    "bf16": ("bfloat16", "full_prec"),
    "fp8": ("auto", "fp8"),
    "int8": ("auto", "int8_wo"),
}


def job(values: dict[str, Any]) -> dict[str, Any]:
    return one(render(values), "Job")


def steps(built: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in built["spec"]["template"]["spec"]["initContainers"]}


def flags(container: dict[str, Any]) -> dict[str, str]:
    """Flag -> value of arguments that come in pairs."""
    return dict(zip(container["args"][::2], container["args"][1::2], strict=True))


def directory(built: dict[str, Any]) -> str:
    """The engine's directory on the claim, the same for every container of the Job."""
    (found,) = {env_of(c)["ENGINE"]["value"] for c in containers(built["spec"]["template"])}
    return found.removeprefix("/engines/")


# What is built.


def test_the_guides_engine():
    """Batches of 8, prompts of 512, answers of 128 tokens, a paged KV cache, over two GPUs."""
    built = steps(one(scenario("engine-build").objects, "Job", "llama"))
    convert, build = flags(built["convert"]), flags(built["build"])
    assert build["--max_batch_size"] == "8"
    assert build["--max_input_len"] == "512"
    assert build["--max_seq_len"] == str(512 + 128)
    assert build["--kv_cache_type"] == "paged"
    assert (convert["--tp_size"], convert["--pp_size"], build["--workers"]) == ("2", "1", "2")
    assert (convert["--dtype"], convert["--qformat"]) == ("float16", "full_prec")
    assert build["--checkpoint_dir"] == convert["--output_dir"]
    assert built["convert"]["command"][-2:] == ["python3", "/app/tensorrt_llm/examples/quantization/quantize.py"]
    assert built["build"]["command"][-1] == "trtllm-build"


@pytest.mark.parametrize("model", SCENARIO["models"])
def test_steps_write_only_where_they_may(model):
    """The root is read-only, and trtllm-build keeps model.cache in its working directory unless told."""
    built = one(scenario("engine-build").objects, "Job", model)
    assert flags(steps(built)["build"])["--output_timing_cache"] == "$(ENGINE_WORK)/model.cache"
    for container in steps(built).values():
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["workingDir"] in {m["mountPath"] for m in container["volumeMounts"]}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions(precision, major):
    objects = render(engine(accelerator={"type": "nvidia-h100"}, engine={"precision": precision}), major=major)
    convert = flags(steps(one(objects, "Job"))["convert"])
    assert (convert["--dtype"], convert["--qformat"]) == PRECISIONS[precision]


def test_every_step_has_the_gpus_and_only_the_steps():
    for model, said in SCENARIO["models"].items():
        built = one(scenario("engine-build").objects, "Job", model)
        wanted = said["accelerator"]["count"]
        for container in built["spec"]["template"]["spec"]["initContainers"]:
            for side in ("requests", "limits"):
                assert container["resources"][side]["nvidia.com/gpu"] == wanted
            assert "NVIDIA_VISIBLE_DEVICES" not in env_of(container)
        (publish,) = built["spec"]["template"]["spec"]["containers"]
        assert "nvidia.com/gpu" not in publish["resources"]["limits"]
        assert env_of(publish)["NVIDIA_VISIBLE_DEVICES"]["value"] == "void"


def test_it_is_built_where_it_is_served():
    """An engine is for one kind of GPU."""
    values = {"cloud": "gke", **engine(capacity="spot", drain={"preStopSeconds": 2, "requestSeconds": 3})}
    objects = render(values)
    mine = one(objects, "Job")["spec"]["template"]["spec"]
    its = one(objects, "Deployment")["spec"]["template"]["spec"]
    for key in ("nodeSelector", "tolerations", "affinity"):
        assert mine.get(key) == its.get(key), key
    assert "cloud.google.com/gke-accelerator" in mine["nodeSelector"]


def test_the_build_reads_the_weights_and_cannot_change_them():
    spec = one(scenario("engine-build").objects, "Job", "ensemble")["spec"]["template"]["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
    assert claims == {"engine": {"claimName": "engines"}, "weights": {"claimName": "checkpoints", "readOnly": True}}


def test_a_job_ends():
    for built in of_kind(scenario("engine-build").objects, "Job"):
        assert built["spec"]["activeDeadlineSeconds"] == 7200
        assert built["spec"]["backoffLimit"] <= 3
        assert "ttlSecondsAfterFinished" not in built["spec"], "GitOps would make it again and again"
    assert job(engine(engine={"deadlineSeconds": 600}))["spec"]["activeDeadlineSeconds"] == 600


def test_priority_lets_the_build_take_the_gpus_of_a_waiting_server():
    built = job(engine(engine={"priorityClassName": "builds"}))
    assert built["spec"]["template"]["spec"]["priorityClassName"] == "builds"
    own = {"priorityClasses": {"builds": {"value": 7}}}
    objects = render({**own, **engine(engine={"priorityClassName": "builds"})})
    (made,) = of_kind(objects, "PriorityClass")
    assert one(objects, "Job")["spec"]["template"]["spec"]["priorityClassName"] == made["metadata"]["name"] != "builds"


# What is served.


@pytest.mark.parametrize("model", SCENARIO["models"])
def test_the_server_waits_for_what_the_job_makes(model):
    objects = scenario("engine-build").objects
    built, pod = one(objects, "Job", model), one(objects, "Deployment", model)["spec"]["template"]["spec"]
    (wait,) = pod["initContainers"]
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "engine"]
    assert mount == {"name": "engine", "mountPath": "/engine", "subPath": directory(built), "readOnly": True}
    assert env_of(wait)["ENGINE"]["value"] == directory(built)
    assert env_of(wait)["NVIDIA_VISIBLE_DEVICES"]["value"] == "void"
    claims = [
        v["persistentVolumeClaim"]["claimName"]
        for spec in (pod, built["spec"]["template"]["spec"])
        for v in spec["volumes"]
        if v["name"] == "engine"
    ]
    assert claims == ["engines", "engines"]


def test_a_server_of_an_engine_is_told_so():
    objects = scenario("engine-build").objects
    args = one(objects, "Deployment", "llama")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[0] == "/engine"
    assert args[args.index("--backend") + 1] == "tensorrt"
    assert args[args.index("--tokenizer") + 1] == "/models/llama-3.1-8b-instruct"
    files = yaml.safe_load(one(objects, "ConfigMap", "llama")["data"]["trtllm.yaml"])
    assert files == {"return_perf_metrics": True}
    args = one(objects, "Deployment", "ensemble")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--model-repository=/models/llama" in args, "its configuration names /engine"


def test_without_an_engine_nothing_of_it_is_there():
    objects = render(engine(engine={"enabled": False}))
    assert of_kind(objects, "Job", "PersistentVolumeClaim") == []
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert "initContainers" not in pod and "engine" not in {v["name"] for v in pod["volumes"]}


def test_a_claim_of_its_own_is_for_several_nodes_and_stays():
    objects = render(engine(claim={"size": "200Gi", "storageClassName": "shared"}))
    claim = one(objects, "PersistentVolumeClaim")
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "shared",
        "resources": {"requests": {"storage": "200Gi"}},
    }
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for kind in ("Job", "Deployment"):
        volumes = {v["name"]: v for v in one(objects, kind)["spec"]["template"]["spec"]["volumes"]}
        assert volumes["engine"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


# Built once for all it depends on, and by a Job that never changes.

DECIDES: dict[str, dict[str, Any]] = {
    "source": {"model": {"source": "pvc://checkpoints/other"}},
    "claim of the weights": {"model": {"source": "pvc://others/llama"}},
    "precision": {"engine": {"precision": "int8"}},
    "kvCache": {"engine": {"kvCache": "continuous"}},
    "batch": {"engine": {"maxBatchSize": 9}},
    "input": {"engine": {"maxInputLength": 513}},
    "output": {"engine": {"maxOutputLength": 129}},
    "tensor": {"parallelism": {"tensor": 1, "pipeline": 2}},
    "image": {"image": {"tag": "1.2.0"}},
    "digest": {"image": {"digest": "sha256:" + "0" * 64}},
    "accelerator": {"accelerator": {"type": "nvidia-h100", "count": 2}},
    "arguments": {"engine": {"extraArgs": {"build": ["--gemm_plugin", "auto"]}}},
    "arguments of another step": {"engine": {"extraArgs": {"convert": ["--calib_size", 32]}}},
}
DOES_NOT: dict[str, dict[str, Any]] = {
    "replicas": {"replicas": 3},
    "service": {"service": {"port": 8080}},
    "drain": {"drain": {"requestSeconds": 5}},
    "served name": {"model": {"servedName": "other"}},
    "server's arguments": {"extraArgs": ["--log_level", "info"]},
    "labels": {"podLabels": {"team": "search"}, "podAnnotations": {"a": "b"}},
    "deadline": {"engine": {"deadlineSeconds": 100}},
    "probes": {"startup": {"loadSeconds": 7}},
    "node selector": {"nodeSelector": {"pool": "a"}},
    "tolerations": {"tolerations": {"team": {"key": "team", "operator": "Exists"}}},
    "memory": {"resources": {"memory": {"limits": "512Gi"}}},
    "user": {"security": {"runAsUser": 2000}},
    "variables": {"env": {"TLLM_LOG_LEVEL": "INFO"}},
}
# These alone are of the pod's, so that the Job is another one; it finds the engine there.
OF_THE_POD = {"node selector", "tolerations", "memory", "user", "variables"}
BASE = engine(accelerator={"type": "nvidia-a100-80gb", "count": 2}, parallelism={"tensor": 2})


@pytest.mark.parametrize("change", DECIDES)
def test_what_an_engine_depends_on_makes_another(change):
    before, after = job(BASE), job(over(BASE, {"models": {"m": DECIDES[change]}}))
    assert directory(before) != directory(after)
    assert before["metadata"]["name"] != after["metadata"]["name"]


@pytest.mark.parametrize("change", DOES_NOT)
def test_what_it_does_not_depend_on_leaves_it(change, major):
    before, after = (
        one(render(values, major=major), "Job") for values in (BASE, over(BASE, {"models": {"m": DOES_NOT[change]}}))
    )
    assert directory(before) == directory(after)
    same_name = before["metadata"]["name"] == after["metadata"]["name"]
    assert same_name == (change not in OF_THE_POD)
    if same_name:
        assert before["spec"]["template"] == after["spec"]["template"], "a Job's template cannot be changed"


def test_a_jobs_name_stands_for_its_template():
    """Whatever changes: Jobs of one name have one template."""
    changes = [{}, *DECIDES.values(), *DOES_NOT.values()]
    made = [job(over(BASE, {"models": {"m": change}})) for change in changes]
    templates = {built["metadata"]["name"]: str(built["spec"]["template"]) for built in made}
    assert len(templates) == len({str(built["spec"]["template"]) for built in made}) > len(DECIDES)
    assert all(templates[b["metadata"]["name"]] == str(b["spec"]["template"]) for b in made)


def test_a_new_chart_version_makes_no_new_job():
    chart = scratch_dir("engines-bumped") / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    meta = chart / "Chart.yaml"
    meta.write_text(re.sub(r"(?m)^version: .*$", "version: 999.9.9", meta.read_text()))
    before, after = job(BASE), one(render(BASE, chart=chart), "Job")
    assert after["metadata"]["labels"]["helm.sh/chart"].endswith("999.9.9")
    assert before["metadata"]["name"] == after["metadata"]["name"]
    assert before["spec"] == after["spec"]


def test_models_of_one_engine_share_it():
    """Two models, two Jobs, one directory: the second Job finds it complete."""
    values = {"models": dict.fromkeys(("a", "b"), BASE["models"]["m"])}
    objects = render(values)
    first, second = one(objects, "Job", "a"), one(objects, "Job", "b")
    assert directory(first) == directory(second)
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_names_fit(major):
    """Pods carry the Job's name in a label."""
    name = "m" * 40
    values = {"models": {name: BASE["models"]["m"]}}
    built = one(render(values, release="a" * 15, major=major), "Job")
    assert len(built["metadata"]["name"]) <= 63


# The Job's pod, run for real in a folder.

STEPS = [
    {"name": "convert",
     "command": ["sh", "-c", 'mkdir -p "$1"; echo "$2" >"$1/checkpoint"; echo "$2" >>"$COUNT"', "--"],
     "args": [{"value": "$(ENGINE_WORK)"}, {"from": "engine.dtype"}]},
    {"name": "build", "command": ["sh", "-c", 'mkdir "$1/engine"; cp "$1/checkpoint" "$1/engine/rank0.engine"', "--"],
     "args": [{"value": "$(ENGINE_WORK)"}]},
]  # fmt: skip
BUILDER = {
    "runtimes": {"trtllm": {"engine": {"steps": STEPS, "precisions": {"fp16": {"dtype": "a 'quoted' $HOME word"}}}}},
    **engine(),
}


def run(container: dict[str, Any], folder: Path, pod: str) -> int:
    """What the kubelet does: expands $(NAME) from the variables, and runs command and args."""
    env = {"POD_NAME": pod, "COUNT": str(folder / "count"), "PATH": os.environ["PATH"], "HOME": "/nowhere"}

    def expand(text: str) -> str:
        text = re.sub(r"\$\((\w+)\)", lambda found: env.get(found[1], found[0]), text)
        return text.replace("/engines/", f"{folder}/")

    for entry in container["env"]:
        if "value" in entry and entry["name"] != "HOME":
            env[entry["name"]] = expand(entry["value"])
    words = [expand(word) for word in [*container["command"], *container.get("args", [])]]
    return subprocess.run(words, env=env, timeout=30, capture_output=True).returncode


def run_pod(built: dict[str, Any], folder: Path, pod: str) -> list[int]:
    """Exit codes of the containers, in order, up to the first that fails."""
    codes: list[int] = []
    for container in containers(built["spec"]["template"]):
        codes.append(run(container, folder, pod))
        if codes[-1]:
            break
    return codes


def test_an_engine_is_built_once(tmp_path):
    built = job(BUILDER)
    assert run_pod(built, tmp_path, "one") == [0, 0, 0]
    made = tmp_path / directory(built)
    assert (made / "rank0.engine").read_text() == "a 'quoted' $HOME word\n"
    assert (made / ".complete").exists()
    assert run_pod(built, tmp_path, "two") == [0, 0, 0]
    assert (tmp_path / "count").read_text().count("\n") == 1, "built a second time"
    assert {path.name for path in tmp_path.iterdir()} == {made.name, "count"}, "nothing is left behind"


def test_a_failed_build_publishes_nothing_and_is_cleared_away(tmp_path):
    broken = over(
        BUILDER, {"runtimes": {"trtllm": {"engine": {"steps": [STEPS[0], {**STEPS[1], "command": ["false"]}]}}}}
    )
    assert run_pod(job(broken), tmp_path, "one") == [0, 1]
    assert not any((path / ".complete").exists() for path in tmp_path.iterdir())
    built = job(BUILDER)
    half = tmp_path / f".{directory(built)}-dead"
    half.mkdir()
    assert run_pod(built, tmp_path, "two") == [0, 0, 0]
    assert not half.exists()


def test_two_builds_at_once_leave_one_engine(tmp_path):
    built = job(BUILDER)
    first, second, publish = containers(built["spec"]["template"])
    for pod in ("one", "two"):
        assert [run(step, tmp_path, pod) for step in (first, second)] == [0, 0]
    assert run(publish, tmp_path, "one") == 0
    assert run(publish, tmp_path, "two") == 0
    made = tmp_path / directory(built)
    assert {path.name for path in made.iterdir()} == {".complete", "rank0.engine"}


def test_the_server_starts_when_the_engine_is_complete(tmp_path):
    objects = render(BUILDER)
    (wait,) = one(objects, "Deployment")["spec"]["template"]["spec"]["initContainers"]
    made = tmp_path / directory(one(objects, "Job"))
    made.mkdir()
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [word.replace("/engines/", f"{tmp_path}/") for word in wait["command"]],
            env={"ENGINE": made.name, "PATH": os.environ["PATH"]},
            timeout=1,
            capture_output=True,
        )
    (made / ".complete").touch()
    assert run(wait, tmp_path, "server") == 0


# A runtime of the user's own.


def test_another_runtime_builds_with_its_own_commands():
    built = job(BUILDER)
    assert list(steps(built)) == ["convert", "build"]
    assert steps(built)["convert"]["command"][-4:] == STEPS[0]["command"]


@pytest.mark.parametrize("key", ["steps", "precisions"])
def test_an_incomplete_engine_of_ones_own_is_named(key):
    own = {**OWN, "engine": {k: v for k, v in OWN["engine"].items() if k != key}}
    assert f"runtimes.own: lacks engine.{key}" in render_error({"runtimes": {"own": own}, **engine("own")})


def test_a_directory_called_engine_is_free_without_one():
    writable = {"engine": {"path": "/engine", "sizeLimit": "1Gi"}}
    assert render(engine(engine={"enabled": False}, writable=writable))


def test_the_build_may_have_an_image_of_its_own():
    objects = render(triton(model={"source": "pvc://repository"}, engine={"source": "pvc://checkpoints/llama"}))
    images = {c["image"] for c in containers(one(objects, "Job")["spec"]["template"])}
    assert images == {"nvcr.io/nvidia/tensorrt-llm/release:1.1.0"}
    served = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert {c["image"] for c in (*served["initContainers"], *served["containers"])} == {
        "nvcr.io/nvidia/tritonserver:25.12-trtllm-python-py3"
    }
    assert maybe(objects, "PersistentVolumeClaim", "m") is None
