"""The pods: security, files, memory, GPUs, arguments, environment."""

from __future__ import annotations

import json

from kubernetes.utils.quantity import parse_quantity
from support.expected import kept, path
from support.objects import OPERATED, SERVING, containers, env_of, name, of_kind, pod_templates


def test_writable_directories_are_mounted(models):
    for model in models:
        volumes = {v["name"]: v for v in model.pod["spec"]["volumes"]}
        mounts = {m["mountPath"]: m for m in model.server["volumeMounts"]}
        for directory in kept(model.spec["writable"]).values():
            mount = mounts[directory["path"]]
            assert not mount.get("readOnly"), model.name
            assert volumes[mount["name"]]["emptyDir"]["sizeLimit"] == directory["sizeLimit"]
        home = model.env.get("HOME", {}).get("value", "/nonexistent")
        assert home in mounts, f"{model.name}: HOME={home} is on the read-only root file system"


def test_no_token_and_no_service_links(case, models):
    """A Service called `vllm` would set VLLM_PORT in every pod of the namespace and break the server."""
    for where, pod in pod_templates(case.objects):
        assert pod["spec"]["enableServiceLinks"] is False, where
        if not where.endswith("/head"):  # one that scales its cluster talks to the API: test_operators.py
            assert pod["spec"]["automountServiceAccountToken"] is False, where
    accounts = of_kind(case.objects, "ServiceAccount")
    for account in accounts:
        assert account["automountServiceAccountToken"] is False, name(account)
    rendered = {a["metadata"]["name"] for a in accounts}
    for model in models:
        if model.spec["serviceAccount"]["create"]:
            assert model.pod["spec"]["serviceAccountName"] in rendered


def test_owners_of_files_are_changed_once(models):
    """Without it every start of a pod walks over all files of its volumes."""
    for model in models:
        context = model.pod["spec"]["securityContext"]
        assert "fsGroup" not in context or context["fsGroupChangePolicy"] == "OnRootMismatch", model.name


def test_no_role_is_granted(case):
    assert of_kind(case.objects, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", hooks=True) == []


def requested(spec: dict) -> str:
    """The extended resource a model's pods ask for."""
    whole, gpu = spec["_accelerator"]["resource"], spec["accelerator"]
    if gpu["sharing"] == "mig" and gpu["mig"]["strategy"] == "mixed":
        return f"nvidia.com/mig-{gpu['mig']['profile']}"
    return f"{whole}.shared" if gpu["sharing"] in ("timeSlicing", "mps") and gpu["shared"]["renamed"] else whole


def test_gpu_requests_equal_limits(models):
    for model in models:
        if model.spec["accelerator"]["dra"]:  # test_sharing.py
            continue
        resource = requested(model.spec)
        wanted = str(model.spec["accelerator"]["count"])
        resources = model.server["resources"]
        assert str(resources["limits"][resource]) == wanted
        assert str(resources["requests"][resource]) == wanted
        for c in containers(model.pod):
            if c is not model.server:
                assert resource not in c.get("resources", {}).get("limits", {}), "one container holds the GPUs"


def test_only_servers_and_builds_take_gpus(case):
    for where, pod in pod_templates(case.objects):
        component = pod["metadata"].get("labels", {}).get("app.kubernetes.io/component")
        if where.split("/")[0] not in (*SERVING, *OPERATED) and component != "engine":
            assert "gpu" not in json.dumps([c["resources"] for c in containers(pod)]), where


def test_memory_counts_shared_memory(models):
    """/dev/shm is memory of the container: not counted in its limit, NCCL's buffers would get it killed."""
    for model in models:
        spec, resources = model.spec, model.server["resources"]
        shm = parse_quantity(spec["shm"]["sizeLimit"])
        for what in ("requests", "limits"):
            per_gpu = parse_quantity(spec["resources"]["memory"][what])
            wanted = per_gpu * spec["accelerator"]["count"] + shm
            assert parse_quantity(resources[what]["memory"]) == wanted, f"{model.name} {what}"
        mount = next(m for m in model.server["volumeMounts"] if m["mountPath"] == "/dev/shm")
        volume = next(v for v in model.pod["spec"]["volumes"] if v["name"] == mount["name"])
        assert volume["emptyDir"]["medium"] == "Memory"
        assert parse_quantity(volume["emptyDir"]["sizeLimit"]) == shm


def test_cpu_is_per_gpu(models):
    for model in models:
        for what in ("requests", "limits"):
            per_gpu = parse_quantity(model.spec["resources"]["cpu"][what])
            got = parse_quantity(model.server["resources"][what]["cpu"])
            assert got == per_gpu * model.spec["accelerator"]["count"], f"{model.name} {what}"


def test_scratch_space_is_bounded_and_requested(models):
    """An emptyDir on disk without limits lets one model evict its neighbours."""
    for model in models:
        disk = [v["emptyDir"] for v in model.pod["spec"]["volumes"] if v.get("emptyDir", {}).get("medium") == ""
                or ("emptyDir" in v and "medium" not in v["emptyDir"])]  # fmt: skip
        assert disk and all("sizeLimit" in d for d in disk), model.name
        total = sum(parse_quantity(d["sizeLimit"]) for d in disk)
        limit = parse_quantity(model.server["resources"]["limits"]["ephemeral-storage"])
        assert limit >= total, f"{model.name}: limit {limit} of scratch volumes that may hold {total}"


def test_image(models):
    for model in models:
        image = model.spec["image"]
        version = f"@{image['digest']}" if "digest" in image else f":{image['tag']}"
        tagged = f"{image['repository']}:{image['tag']}{version}"
        assert model.server["image"] in (image["repository"] + version, tagged)
        assert model.server["imagePullPolicy"] == image["pullPolicy"]
        assert not model.server["image"].endswith(":latest")


def test_every_container_asks_for_all_that_it_takes(case):
    """A namespace with a ResourceQuota takes no pod without; and no container may take what it did not ask for."""
    for where, pod in pod_templates(case.objects):
        for container in containers(pod):
            for what in ("cpu", "memory", "ephemeral-storage"):
                asked, most = (container["resources"][side][what] for side in ("requests", "limits"))
                assert 0 < parse_quantity(asked) <= parse_quantity(most), f"{where} {container['name']} {what}"


def test_other_pods_scratch_space_is_bounded(case):
    for where, pod in pod_templates(case.objects):
        disks = [v["emptyDir"] for v in pod["spec"].get("volumes", []) if "emptyDir" in v]
        assert all("sizeLimit" in disk for disk in disks), where


def _at_least(version: str, bound: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(n) for n in text.split(".")]

    return numbers(version) >= numbers(bound)


def _argument(entry: dict, model) -> list[str]:
    """The words one entry of a preset's `args` stands for; derived values (reference) as a suffix of it."""
    if "since" in entry and not _at_least(model.spec["runtimeVersion"], entry["since"]):
        return []
    if "until" in entry and _at_least(model.spec["runtimeVersion"], entry["until"]):
        return []
    if "from" not in entry:
        value = entry["value"]
    elif entry["from"] in ("model.reference", "model.path", "model.repository", "model.hubFile"):
        value = place(model, entry["from"])
    elif entry["from"].startswith("ports."):
        value = path(model.runtime, entry["from"])
    elif entry["from"] == "engine.sourcePath":
        value = "/models/" + model.spec["engine"].get("source", model.spec["model"]["source"]).split("/", 3)[3]
    else:
        value = path(model.spec, entry["from"])
    if value in (None, "", False):
        return []
    if value is True:
        return [entry["flag"]]
    if "flag" not in entry:
        return [str(value)]
    return [f"{entry['flag']}{entry['joiner']}{value}"] if "joiner" in entry else [entry["flag"], str(value)]


def place(model, asked: str) -> str | None:
    """What the server is told: the folder that is downloaded to or mounted, or the name on the hub; or a file."""
    if asked == "model.reference" and model.spec["engine"]["enabled"] and model.runtime["engine"].get("replacesModel"):
        return "/engine"
    source, file = model.spec["model"]["source"], model.spec["model"].get("file")
    scheme, rest = source.split("://")
    repository = rest if scheme == "hf" and model.spec["storage"]["download"]["by"] == "server" else None
    mounted = {"pvc": "/".join(["/models", *rest.split("/")[1:]]), "oci": "/models"}.get(scheme)
    path = model.downloaded or mounted
    if file and path and not path.endswith(f"/{file}"):
        path = f"{path}/{file}"
    if asked == "model.hubFile":
        return file if repository else None
    return {"model.path": path, "model.repository": repository}.get(asked, path or repository)


def test_arguments_are_the_presets(models):
    for model in models:
        wanted = [word for entry in model.runtime["args"] for word in _argument(entry, model)]
        assert model.server.get("command", []) == model.runtime["command"]
        if model.spec["engine"]["enabled"]:
            wanted += [word for entry in model.runtime["engine"].get("args", []) for word in _argument(entry, model)]
        if model.kind == "LeaderWorkerSet":
            wanted += [word for entry in model.runtime["multiNode"]["args"] for word in _argument(entry, model)]
        assert model.server.get("args", []) == [*wanted, *model.spec["extraArgs"]], model.name


def test_environment(models):
    for model in models:
        for key, value in kept(model.spec["env"]).items():
            wanted = value if isinstance(value, dict) else None
            if wanted is None:
                assert model.env[key]["value"] == str(value), f"{model.name} {key}"
            else:
                assert model.env[key]["valueFrom"] == wanted, f"{model.name} {key}"
        assert "NVIDIA_VISIBLE_DEVICES" not in model.env, "bypasses the device plugin's allocation"


def test_derived_environment(models):
    """What a preset makes of the model's values, unless the model or the preset says something else."""
    for model in models:
        said = kept(model.spec["env"])
        for key, entry in model.runtime.get("env", {}).items():
            wanted = _argument({"flag": "-", **entry}, model)[1:]
            if key not in said and entry["from"] != "startup.budgetSeconds":
                assert [model.env[key]["value"]] == wanted if wanted else key not in model.env, f"{model.name} {key}"


def test_token_comes_from_the_secret(models):
    """And goes to what downloads, and to nothing else."""
    for model in models:
        secret, by = model.spec["model"].get("tokenSecret"), model.spec["storage"]["download"]["by"]
        for container in containers(model.pod):
            refs = [e["valueFrom"].get("secretKeyRef") for e in env_of(container).values() if "valueFrom" in e]
            wanted = {"pod": "download", "server": "server"}.get(by)
            if secret:
                assert (secret in refs) == (container["name"] == wanted), f"{model.name} {container['name']}"


def test_claims_are_mounted_read_only(models):
    for model in models:
        source, engine = model.spec["model"]["source"], model.spec["engine"]
        if engine["enabled"] and model.runtime["engine"].get("replacesModel"):
            source = engine.get("source", source)
        claims = [v for v in model.pod["spec"]["volumes"] if "persistentVolumeClaim" in v]
        if source.startswith("pvc://"):
            claim = source.removeprefix("pvc://").split("/")[0]
            volume = next(v for v in claims if v["persistentVolumeClaim"]["claimName"] == claim)
            mount = next(m for m in model.server["volumeMounts"] if m["name"] == volume["name"])
            assert mount["readOnly"] is True, model.name
