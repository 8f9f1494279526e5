"""Where a model comes from: what downloads it, what the server then has and has not, and what is mounted."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from support.expected import over
from support.matrix import RUNTIMES, minimal_model, scenario
from support.objects import MODEL_LABEL, containers, env_of, model_of, of_kind, one, selects, server
from support.render import helm, load_yaml, render, scratch_dir
from support.storage_problems import JOB, MANY
from support.views import models

from gpu_inference.paths import CHART
from gpu_inference.validate.rendered.restricted import violations

TOKEN = {"name": "hub", "key": "token"}
HUB = {"source": "hf://org/name", "revision": "abc", "tokenSecret": TOKEN}


def objects(runtime: str = "vllm", major: int = 4, **changes: Any) -> list[dict[str, Any]]:
    model = over(minimal_model(runtime, "nvidia-l4"), changes)
    return render({"models": {"m": model}}, major=major)


def pod(found: list[dict[str, Any]], kind: str = "Deployment") -> dict[str, Any]:
    return one(found, kind, "m")["spec"]["template"]["spec"]


def download(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = [c for c in [*template.get("initContainers", []), *template["containers"]] if c["name"] == "download"]
    return found


def wanted(container: dict[str, Any]) -> dict[str, Any]:
    """What files/download.py is told."""
    return json.loads(env_of(container)["DOWNLOAD"]["value"])


def mount(container: dict[str, Any], path: str) -> dict[str, Any]:
    (found,) = [m for m in container["volumeMounts"] if m["mountPath"] == path]
    return found


def volume(template: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [v for v in template["volumes"] if v["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}


def test_the_servers_image_downloads_before_the_server_starts(major):
    template = pod(objects(major=major, model=HUB))
    container, serving = download(template), template["containers"][0]
    assert container["image"] == serving["image"], "it is there already"
    assert container["command"] == ["python3", "/downloader/download.py"]
    told = wanted(container)
    assert told["source"] == "hf://org/name" and told["revision"] == "abc"
    assert told["path"] == serving["args"][0] and told["path"].endswith("/org/name")
    assert told["path"].startswith(told["folder"] + "/") and told["folder"].startswith("/cache/")
    assert mount(container, "/cache").get("readOnly") is None
    assert mount(serving, "/cache")["readOnly"] is True
    script = volume(template, mount(container, "/downloader")["name"])["configMap"]["name"]
    (stored,) = [o for o in objects(major=major, model=HUB) if o["metadata"]["name"] == script]
    for name in ("download.py", "download.sh"):
        assert stored["data"][name].strip() == (CHART / "files" / name).read_text().strip()


def test_the_token_is_the_downloads_alone():
    template = pod(objects(model=HUB))
    assert env_of(download(template))["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": TOKEN}
    assert "secretKeyRef" not in json.dumps(template["containers"])


def test_the_downloads_environment():
    """The model's wins, each name is there once, and what the script reads is the chart's."""
    own = {"HF_TOKEN": "own", "HF_ENDPOINT": "https://hub.example.com", "DOWNLOAD": "x"}
    container = download(pod(objects(model=HUB, storage={"download": {"env": own}})))
    names = [entry["name"] for entry in container["env"]]
    assert sorted(names) == ["DOWNLOAD", "HF_ENDPOINT", "HF_TOKEN", "NVIDIA_VISIBLE_DEVICES"]
    assert env_of(container)["HF_TOKEN"]["value"] == "own"
    assert wanted(container)["source"] == "hf://org/name"


@pytest.mark.parametrize(
    "runtime", [r for r in RUNTIMES if {"hf", "pvc"} <= set(load_yaml(CHART / f"runtimes/{r}.yaml")["modelSources"])]
)
def test_every_runtime_that_knows_a_hub_is_kept_from_it(runtime):
    """Downloaded by the chart: the variables; by the server: none of them, and the token."""
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    preset = load_yaml(CHART / f"runtimes/{runtime}.yaml")
    model = {**HUB, **({"file": "x.gguf"} if "modelFile" in preset else {})}
    env = env_of(server(one(objects(runtime, model=model), "Deployment", "m")))
    assert (offline <= env.keys()) == ("offlineEnv" in preset)
    assert ("offlineEnv" in preset) or "modelFile" in preset, "llama.cpp takes a path and asks nobody"
    assert not env.keys() & {"HF_TOKEN", "HF_HOME"}
    alone = {key: value for key, value in model.items() if key != "revision"}
    found = objects(runtime, model=alone, storage={"download": {"by": "server"}})
    env = env_of(server(one(found, "Deployment", "m")))
    assert not offline & env.keys()
    assert env["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": TOKEN} and env["HF_HOME"]["value"].startswith("/cache/")
    assert "initContainers" not in pod(found)
    assert [o for o in of_kind(found, "ConfigMap") if o["metadata"]["name"].endswith("-download")] == []


def test_another_choice_of_files_gets_another_folder():
    """Nothing changes below a server that still runs."""

    def folder(**changes: Any) -> str:
        return wanted(download(pod(objects(**over({"model": HUB}, changes)))))["folder"]

    choices = [
        {},
        {"model": {"revision": "def"}},
        {"model": {"source": "hf://org/other"}},
        {"storage": {"download": {"ignore": ["x"]}}},
        {"storage": {"download": {"allow": ["x"]}}},
        {"storage": {"download": {"pickles": True}}},
    ]
    folders = [folder(**choice) for choice in choices]
    assert len(set(folders)) == len(folders)
    assert folder(replicas=3, model={"contextLength": 99}) == folders[0]
    assert folder(storage={**JOB, "cache": {"sizeLimit": "9Gi"}}, claims={"cache": MANY}) == folders[0]


def test_one_file_of_many():
    found = objects("llama-cpp", model={"source": "hf://org/name-GGUF", "file": "q4/x.gguf"})
    told, args = wanted(download(pod(found))), server(one(found, "Deployment", "m"))["args"]
    assert told["allow"] == ["q4/x.gguf", "q4/x.gguf/*"]
    assert args[args.index("--model") + 1] == f"{told['folder']}/org/name-GGUF/q4/x.gguf"
    assert "--hf-repo" not in args and "--hf-file" not in args
    assert download(pod(found))["image"] == "python:3.13-slim", "the server's has no Python"
    parts = {"source": "hf://org/name-GGUF", "file": "x-00001-of-00002.gguf"}
    split = objects("llama-cpp", model=parts, storage={"download": {"allow": ["x-*.gguf"]}})
    assert wanted(download(pod(split)))["allow"] == ["x-*.gguf"]
    alone = objects("llama-cpp", model=parts, storage={"download": {"by": "server"}})
    args = server(one(alone, "Deployment", "m"))["args"]
    assert args[:4] == ["--hf-repo", "org/name-GGUF", "--hf-file", "x-00001-of-00002.gguf"]


def test_a_job_downloads_once_for_all_pods(major):
    found = objects(major=major, model=HUB, storage=JOB, claims={"cache": MANY}, replicas=3)
    job, template = one(found, "Job", "m"), pod(found)
    claim = {"claimName": one(found, "PersistentVolumeClaim", "m")["metadata"]["name"]}
    filling = job["spec"]["template"]["spec"]
    assert volume(filling, "cache") == {"persistentVolumeClaim": claim}
    assert volume(template, "cache") == {"persistentVolumeClaim": {**claim, "readOnly": True}}
    assert wanted(download(filling))["path"] == template["containers"][0]["args"][0]
    waiting = download(template)
    assert waiting["command"][-1] == "wait" and wanted(waiting)["folder"] == wanted(download(filling))["folder"]
    for container in containers({"spec": template}):
        assert mount(container, "/cache")["readOnly"] is True
        assert "secretKeyRef" not in json.dumps(container), container["name"]
    assert env_of(download(filling))["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": TOKEN}
    assert violations(job["spec"]["template"]) == []
    assert "ttlSecondsAfterFinished" not in job["spec"], "what deletes a Job makes GitOps create it again"


def test_a_job_is_never_changed():
    """Its name says what is in its pod, which Kubernetes does not let anyone change."""

    def job(**changes: Any) -> tuple[str, Any]:
        base = {"model": HUB, "storage": JOB, "claims": {"cache": MANY}}
        found = one(objects(**over(base, changes)), "Job", "m")
        return found["metadata"]["name"], found["spec"]

    changes = [
        {"model": {"revision": "def"}},
        {"storage": {"download": {"env": {"A": "b"}}}},
        {"storage": {"download": {"image": "python:3.14"}}},
        {"security": {"runAsUser": 2000}},
        {"serviceAccount": {"create": False, "name": "other"}},
    ]
    jobs = [job(), *(job(**change) for change in changes)]
    assert len({name for name, _ in jobs}) == len(jobs)
    assert job(replicas=5, extraArgs=["--x"], model={"contextLength": 5}) == jobs[0]
    long = "a" * 40
    model = over(minimal_model("vllm", "nvidia-l4"), {"model": HUB, "storage": JOB, "claims": {"cache": MANY}})
    (longest,) = of_kind(render({"fullnameOverride": "b" * 15, "models": {long: model}}), "Job")
    assert len(longest["metadata"]["name"]) <= 63


def test_nothing_takes_the_jobs_pods_for_servers():
    found = objects(model=HUB, storage=JOB, claims={"cache": MANY}, replicas=3, networkPolicy={"enabled": True})
    labels = one(found, "Job", "m")["spec"]["template"]["metadata"]["labels"]
    assert labels[MODEL_LABEL] == "m"
    for obj in of_kind(found, "Service", "PodDisruptionBudget", "Deployment"):
        assert not selects(obj["spec"]["selector"], labels)


@pytest.mark.parametrize(
    ("runtime", "changes", "ports"),
    [
        ("vllm", {"model": HUB}, {"server": True}),
        ("vllm", {"model": HUB, "storage": {"download": {"by": "server"}}}, {"server": True}),
        ("triton", {"model": {"source": "s3://bucket/a"}}, {"server": True}),
        ("vllm", {"model": HUB, "storage": JOB, "claims": {"cache": MANY}}, {"server": False, "download": True}),
        ("vllm", {"model": {"source": "oci://registry.example.com/a:1"}}, {"server": False}),
        ("nim", {"model": {"source": "image://"}}, {"server": True}),
        ("nim-1", {"model": {"source": "image://"}}, {"server": True}),
        ("nim", {"model": {"source": "pvc://claim/a"}}, {"server": False}),
        ("bentoml", {"model": {"source": "image://"}}, {"server": False}),
    ],
)
def test_the_way_out_is_open_for_whatever_downloads(runtime, changes, ports):
    """HTTPS outside of private networks, and for nobody else."""
    policies = of_kind(objects(runtime, networkPolicy={"enabled": True}, **changes), "NetworkPolicy")
    policies = [policy for policy in policies if model_of(policy) is not None]
    reached = {}
    for policy in policies:
        component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        open_ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert 53 in open_ports
        assert sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
        reached[component] = 443 in open_ports
        if component == "download":
            assert "ingress" not in policy["spec"], "nobody may ask it anything"
            labels = {**policy["spec"]["podSelector"]["matchLabels"]}
            job = one(objects(runtime, **changes), "Job", "m")
            assert labels.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert reached == ports


def test_rclone_is_the_one_of_images():
    image = {"repository": "registry.example.com/mirror/rclone", "tag": "1.0"}
    values = {
        "images": {"rclone": image},
        "models": {"m": over(minimal_model("triton", "nvidia-l4"), {"model": {"source": "s3://b/c"}})},
    }
    container = download(pod(render(values)))
    assert container["image"] == "registry.example.com/mirror/rclone:1.0"


@pytest.mark.parametrize(
    ("source", "remote"),
    [
        ("s3://bucket/a/b", ":s3:bucket/a/b"),
        ("gs://bucket", ":gcs:bucket"),
        ("az://account/container/a", ":azureblob,account=account:container/a"),
    ],
)
def test_object_stores_are_rclones(source, remote, major):
    key = {"secretKeyRef": {"name": "bucket", "key": "id"}}
    env = {"AWS_ACCESS_KEY_ID": key, "RCLONE_S3_PROVIDER": "Minio"}
    found = objects("triton", major=major, model={"source": source}, storage={"download": {"env": env}})
    template = pod(found)
    container = download(template)
    said = {name: entry.get("value") for name, entry in env_of(container).items()}
    assert container["image"].startswith("docker.io/rclone/rclone:")
    assert container["command"] == ["sh", "/downloader/download.sh"]
    assert said["SOURCE"] == remote
    assert said["TARGET"] == f"{said['FOLDER']}/{source.split('://')[1]}"
    assert f"--model-repository={said['TARGET']}" in template["containers"][0]["args"]
    assert {"*.bin", "*.pt", "*.pkl"} <= set(said["IGNORE"].splitlines())
    assert said["RCLONE_S3_PROVIDER"] == "Minio", "the model's environment wins"
    assert {said[f"RCLONE_{store}_ENV_AUTH"] for store in ("S3", "GCS", "AZUREBLOB")} == {"true"}
    assert env_of(container)["AWS_ACCESS_KEY_ID"]["valueFrom"] == key
    assert "AWS_ACCESS_KEY_ID" not in env_of(template["containers"][0])
    taken = objects("triton", model={"source": source}, storage={"download": {"pickles": True, "ignore": ["x"]}})
    assert env_of(download(pod(taken)))["IGNORE"]["value"] == "x"


def test_both_downloads_leave_out_the_same():
    text = (CHART / "files/download.py").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("PICKLES = ")]
    found = objects("triton", model={"source": "s3://bucket/a"})
    ignored = env_of(download(pod(found)))["IGNORE"]["value"].splitlines()
    assert list(eval(line.removeprefix("PICKLES = "))) == ignored


def test_an_image_volume_and_a_folder_of_the_node():
    image = pod(objects(model={"source": "oci://registry.example.com/a/b:1", "file": "sub"}))
    reference = {"reference": "registry.example.com/a/b:1", "pullPolicy": "IfNotPresent"}
    node = pod(objects(model={"source": "hostPath:///var/models/a"}, security={"allowHostPath": True}))
    claim = pod(objects(model={"source": "pvc://weights/a"}))
    for template, source, path in (
        (image, {"image": reference}, "/models/sub"),
        (node, {"hostPath": {"path": "/var/models/a", "type": "Directory"}}, "/models"),
        (claim, {"persistentVolumeClaim": {"claimName": "weights", "readOnly": True}}, "/models/a"),
    ):
        serving = template["containers"][0]
        assert mount(serving, "/models")["readOnly"] is True
        assert volume(template, "model") == source
        assert serving["args"][0] == path
        assert "initContainers" not in template
    assert violations({"spec": image}) == []
    assert violations({"spec": node}) == ["volume model is a hostPath"]


def test_an_existing_claim_is_downloaded_to():
    found = objects(model=HUB, storage={"download": {"claim": "models"}}, replicas=2)
    assert volume(pod(found), "cache") == {"persistentVolumeClaim": {"claimName": "models"}}
    assert of_kind(found, "PersistentVolumeClaim") == []
    disk = server(one(found, "Deployment", "m"))["resources"]["limits"]["ephemeral-storage"]
    assert disk == server(one(objects(), "Deployment", "m"))["resources"]["limits"]["ephemeral-storage"]
    shared = objects(model=HUB, storage={"download": {"by": "job", "claim": "models"}})
    assert volume(pod(shared), "cache") == {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    filling = one(shared, "Job", "m")["spec"]["template"]["spec"]
    assert volume(filling, "cache") == {"persistentVolumeClaim": {"claimName": "models"}}


def test_a_runtime_that_loads_no_folder_downloads_itself():
    values = {"runtimes": {"vllm": {"modelSources": ["hf"]}}, "models": {"m": minimal_model("vllm", "nvidia-l4")}}
    found = render({**values, "models": {"m": {**values["models"]["m"], "model": HUB}}})
    template = pod(found)
    assert "initContainers" not in template
    assert template["containers"][0]["args"][0] == "org/name"


def test_a_download_makes_a_pod_no_harder_to_place(models):
    """Kubernetes reserves the larger of an init container's requests and the containers'."""
    from kubernetes.utils.quantity import parse_quantity

    for model in models:
        for container in model.pod["spec"].get("initContainers", []):
            for what, amount in container["resources"]["requests"].items():
                assert parse_quantity(amount) <= parse_quantity(model.server["resources"]["requests"][what])
            assert container["resources"]["limits"].keys() == container["resources"]["requests"].keys()


def test_image_volumes_come_with_a_warning_where_they_may_be_off():
    """Helm shows notes for one version of Kubernetes only, without a cluster: so the bound moves, in a copy."""
    (layer,) = scenario("storage").layers
    for bound, warned in (("1.35", False), ("1.99", True)):
        chart = scratch_dir(f"notes-{bound}") / "chart"
        shutil.copytree(CHART, chart, dirs_exist_ok=True)
        text = (CHART / "templates/NOTES.txt").read_text()
        assert text.count('"<1.35-0"') == 1
        (chart / "templates/NOTES.txt").write_text(text.replace('"<1.35-0"', f'"<{bound}-0"'))
        words = ("--namespace", "x", "--dry-run=client", "--values", str(layer))
        said = helm(4).run("install", "llm", str(chart), *words)
        assert ("WARNING: small comes in an image volume" in said) == warned, bound


def test_the_scenario_shows_every_way():
    shown = models(scenario("storage"))
    schemes = {model.spec["model"]["source"].split("://")[0] for model in shown}
    assert schemes == {"hf", "s3", "gs", "az", "oci", "pvc"}
    assert {m.spec["storage"]["download"]["by"] for m in shown} == {"pod", "job"}
    assert {m.kind for m in shown} == {"Deployment", "StatefulSet"}
