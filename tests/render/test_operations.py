"""What a release has besides its models: backups, images on the nodes, Secrets from a store, the user's own objects."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.matrix import minimal_model, scenario
from support.objects import containers, name, of_kind, one, pod_templates
from support.render import load_yaml, render

from gpu_inference.paths import CHART, VALUES

FAKE_RCLONE = Path(__file__).parents[1] / "support" / "fake_rclone.py"
OPERATIONS = load_yaml(VALUES / "operations.yaml")


def backup(**changes: Any) -> dict[str, Any]:
    return {"backup": {"enabled": True, "destination": "s3://backups/llm", "claims": ["models"], **changes}}


def copier(obj: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_templates([obj])[0][1]["spec"]["containers"]
    return container


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


# Backups.


def test_a_backup_runs_at_night_and_alone():
    cron = one(scenario("operations").objects, "CronJob")["spec"]
    assert (cron["schedule"], cron["timeZone"], cron["concurrencyPolicy"]) == ("0 2 * * *", "Europe/Berlin", "Forbid")
    job = cron["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] > 0 and job["backoffLimit"] <= 3
    assert one(render(backup()), "CronJob")["spec"]["timeZone"] == "Etc/UTC"


def test_nothing_is_backed_up_unless_asked_for():
    assert of_kind(render({"models": {"m": minimal_model("triton", "nvidia-l4")}}), "CronJob", "Job", "DaemonSet") == []


def mounted(obj: dict[str, Any]) -> dict[str, tuple[str, bool, bool]]:
    """Claim -> (path, volume is read-only, mount is)."""
    spec = pod_templates([obj])[0][1]["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
    mounts = {m["name"]: m for m in copier(obj)["volumeMounts"]}
    return {
        claim["claimName"]: (mounts[volume]["mountPath"], claim["readOnly"], mounts[volume]["readOnly"])
        for volume, claim in claims.items()
    }


def test_claims_of_models_and_engines_are_copied_and_never_written_to():
    values = {"backup": {"enabled": True, "destination": "s3://b"}}
    cron = one(render(values, layers=[VALUES / "engine-build.yaml"]), "CronJob")
    wanted = {claim: (f"/data/{claim}", True, True) for claim in ("checkpoints", "engines", "model-repository")}
    assert mounted(cron) == wanted


def test_an_engines_own_claim_is_copied():
    own = {"runtimeVersion": "1.2.1", "engine": {"enabled": True, "claim": {"size": "1Ti"}}}
    model = {**minimal_model("trtllm", "nvidia-l4"), **own}
    values = {"backup": {"enabled": True, "destination": "s3://b"}, "models": {"m": model}}
    assert set(mounted(one(render(values), "CronJob"))) == {"llm-m-engines", "models"}


def test_named_claims_are_copied_instead():
    cron = one(render(backup(claims=["a", "b"]), layers=[VALUES / "engine-build.yaml"]), "CronJob")
    assert set(mounted(cron)) == {"a", "b"}


@pytest.mark.parametrize(
    ("destination", "remote"),
    [
        ("s3://bucket", ":s3:bucket"),
        ("s3://bucket/a/b/", ":s3:bucket/a/b"),
        ("gs://bucket/a", ":gcs:bucket/a"),
        ("az://container/a", ":azureblob:container/a"),
    ],
)
def test_destinations(destination, remote, major):
    found = variables(copier(one(render(backup(destination=destination), major=major), "CronJob")))
    assert found["REMOTE"] == remote
    assert {found[f"RCLONE_{kind}_ENV_AUTH"] for kind in ("S3", "GCS", "AZUREBLOB")} == {"true"}


def test_credentials_come_from_a_secret_or_an_identity():
    container = copier(one(scenario("operations").objects, "CronJob"))
    assert container["envFrom"] == [{"secretRef": {"name": "backup-credentials"}}]
    label = {"azure.workload.identity/use": "true"}
    own = {"app.kubernetes.io/component": "server", **label}
    cron = one(render(backup(serviceAccountName="copier", podLabels=own)), "CronJob")
    ((_, pod),) = pod_templates([cron])
    assert pod["spec"]["serviceAccountName"] == "copier"
    assert "envFrom" not in pod["spec"]["containers"][0]
    assert label.items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "backup", "no Service may select it"


def test_a_name_that_fits_a_cron_job():
    cron = one(render(backup(), release="a" * 53), "CronJob")
    assert len(cron["metadata"]["name"]) <= 52


def test_a_restore_writes_to_the_same_claims_as_the_backup_reads():
    objects = render(backup(restore="current", claims=["a", "b"]))
    job, cron = one(objects, "Job"), one(objects, "CronJob")
    assert mounted(job) == {claim: (path, False, False) for claim, (path, _, _) in mounted(cron).items()}
    assert {**variables(copier(job)), "RESTORE": ""} == {**variables(copier(cron)), "RESTORE": ""}
    assert variables(copier(job))["RESTORE"] == "current"
    assert copier(job)["command"] != copier(cron)["command"]


class Bucket:
    """A folder that stands for the bucket, another for the claims, and the scripts a pod would run on them."""

    def __init__(self, root: Path) -> None:
        self.data, self.remote, self.root = root / "data", root / "remote", root
        self.data.mkdir()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(self, kind: str, restore: str = "current", keep_days: int = 14) -> subprocess.CompletedProcess[str]:
        container = copier(one(render(backup(restore=restore, keepDays=keep_days)), kind))
        tools = self.root / "bin"
        if not shutil.which("rclone") and not tools.exists():
            tools.mkdir()
            (tools / "rclone").write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_RCLONE} "$@"\n')
            (tools / "rclone").chmod(0o755)
        env = {**variables(container), "DATA": str(self.data), "REMOTE": f":local:{self.remote}"}
        env |= {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(self.root),
            "RCLONE_CONFIG": str(self.root / "none"),
        }
        return subprocess.run(container["command"], env=env, capture_output=True, text=True, timeout=60)

    def found(self, below: Path) -> dict[str, str]:
        return {str(p.relative_to(below)): p.read_text() for p in sorted(below.rglob("*")) if p.is_file()}


@pytest.fixture(name="bucket")
def _bucket(tmp_path: Path) -> Bucket:
    made = Bucket(tmp_path)
    made.write("data/models/a", "first")
    made.write("data/models/sub/b", "kept")
    made.write("data/engines/.work/half", "unfinished")
    made.write("data/engines/hash/.complete", "")
    return made


def today(days_ago: int = 0) -> str:
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)).strftime("%Y%m%d")


def test_a_backup_holds_what_there_is_and_what_it_replaced(bucket):
    assert bucket.run("CronJob").returncode == 0
    assert bucket.found(bucket.remote / "models/current") == {"a": "first", "sub/b": "kept"}
    assert bucket.found(bucket.remote / "engines/current") == {"hash/.complete": ""}
    bucket.write("data/models/a", "second version")
    (bucket.data / "models/sub/b").unlink()
    assert bucket.run("CronJob").returncode == 0
    assert bucket.found(bucket.remote / "models/current") == {"a": "second version"}
    assert bucket.found(bucket.remote / "models/previous" / today()) == {"a": "first", "sub/b": "kept"}


def test_old_versions_go_by_the_day_they_were_replaced(bucket):
    """Not by their own time: weights are older than any retention."""
    for days in (14, 15, 400):
        bucket.write(f"remote/models/previous/{today(days)}/a", "old")
    bucket.write("remote/models/previous/by-hand/a", "old")
    assert bucket.run("CronJob").returncode == 0
    left = {path.name for path in (bucket.remote / "models/previous").iterdir()}
    assert left == {today(14), "by-hand"}


def test_a_claim_that_fails_fails_the_job_but_not_the_others(bucket):
    bucket.write("remote/engines/current", "a file where a folder has to be")
    done = bucket.run("CronJob")
    assert done.returncode == 1 and "failed: engines" in done.stderr
    assert bucket.found(bucket.remote / "models/current") == {"a": "first", "sub/b": "kept"}


def test_a_lost_claim_comes_back(bucket):
    before = bucket.found(bucket.data / "models")
    assert bucket.run("CronJob").returncode == 0
    shutil.rmtree(bucket.data / "models")
    (bucket.data / "models").mkdir()
    assert bucket.run("Job").returncode == 0
    assert bucket.found(bucket.data / "models") == before


def test_a_day_comes_back(bucket):
    assert bucket.run("CronJob").returncode == 0
    bucket.write(f"remote/models/previous/{today(3)}/a", "three days ago")
    bucket.write(f"remote/models/previous/{today(1)}/a", "yesterday")
    bucket.write(f"remote/models/previous/{today(5)}/a", "five days ago")
    assert bucket.run("Job", restore=today(4)).returncode == 0
    assert bucket.found(bucket.data / "models") == {"a": "three days ago", "sub/b": "kept"}


# Images on the nodes before the pods.


def test_images_are_pulled_where_the_model_may_run():
    objects = scenario("operations").objects
    for model in OPERATIONS["models"]:
        pull, serve = one(objects, "DaemonSet", model), one(objects, "Deployment", model)
        mine, its = pull["spec"]["template"]["spec"], serve["spec"]["template"]["spec"]
        for key in ("nodeSelector", "tolerations", "imagePullSecrets", "affinity"):
            assert mine.get(key) == its.get(key), key
        assert its["containers"][0]["image"] in [c["image"] for c in mine["initContainers"]]
        labels = pull["spec"]["template"]["metadata"]["labels"]
        assert pull["spec"]["selector"]["matchLabels"] == labels
        assert not serve["spec"]["selector"]["matchLabels"].items() <= labels.items(), "its Service would select it"


def test_images_are_pulled_on_spot_nodes_too(major):
    """By a DaemonSet of their own, and neither has the other's pods."""
    values = {"modelDefaults": {"prePull": True}}
    objects = render(values, layers=scenario("capacity").layers, major=major)
    pulls = {o["metadata"]["name"]: o["spec"] for o in of_kind(objects, "DaemonSet")}
    serves = {o["metadata"]["name"]: o["spec"] for o in of_kind(objects, "Deployment")}
    assert set(pulls) == {"llm-search-pull", "llm-search-pull-spot", "llm-nightly-pull"}
    for pull, serve in {"search-pull": "search", "search-pull-spot": "search-spot", "nightly-pull": "nightly"}.items():
        mine, its = (spec["template"]["spec"] for spec in (pulls[f"llm-{pull}"], serves[f"llm-{serve}"]))
        for key in ("nodeSelector", "tolerations", "affinity"):
            assert mine.get(key) == its.get(key), key
    for own, spec in pulls.items():
        matched = spec["selector"]["matchLabels"].items()
        found = [other for other in pulls if matched <= pulls[other]["template"]["metadata"]["labels"].items()]
        assert found == [own]


def test_the_image_need_not_have_a_shell():
    """The model's image only runs a program that another container brought."""
    spec = one(scenario("operations").objects, "DaemonSet", "chat")["spec"]["template"]["spec"]
    bring, pull = spec["initContainers"]
    (shared,) = {m["mountPath"] for m in bring["volumeMounts"]} & {m["mountPath"] for m in pull["volumeMounts"]}
    assert bring["command"][0] == "cp" and bring["command"][-1] == pull["command"][0]
    assert pull["command"] == [f"{shared}/true"], "busybox goes by the name it is called by"
    assert bring["image"].startswith("docker.io/library/busybox:") and bring["image"].endswith("-musl")


def test_pulling_takes_next_to_nothing():
    spec = one(scenario("operations").objects, "DaemonSet", "chat")["spec"]["template"]["spec"]
    for container in containers({"spec": spec}):
        assert container["resources"]["requests"] == {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "16Mi"}


# Secrets and objects of the user's own.


@pytest.mark.parametrize("secret", OPERATIONS["externalSecrets"])
def test_secrets_come_from_a_store(secret):
    said = OPERATIONS["externalSecrets"][secret]
    (found,) = [
        o["spec"]
        for o in of_kind(scenario("operations").objects, "ExternalSecret")
        if o["spec"]["target"]["name"] == secret
    ]
    assert found["secretStoreRef"] == said["secretStoreRef"]
    assert found["refreshInterval"] == said.get("refreshInterval", "1h")
    assert {d["secretKey"]: d["remoteRef"] for d in found["data"]} == said["data"]
    assert found["target"].get("template", {}).get("type") == said.get("type")


def test_what_the_models_need_is_what_the_store_gives():
    """Token, registry and bucket: each Secret that is used is made."""
    objects = scenario("operations").objects
    made = {
        o["spec"]["target"]["name"]: {d["secretKey"] for d in o["spec"]["data"]}
        for o in of_kind(objects, "ExternalSecret")
    }
    token = OPERATIONS["models"]["chat"]["model"]["tokenSecret"]
    assert token["key"] in made[token["name"]]
    assert made[OPERATIONS["imagePullSecrets"][0]["name"]] == {".dockerconfigjson"}
    assert made[OPERATIONS["backup"]["secretName"]] >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_no_secret_is_in_a_manifest():
    assert of_kind(scenario("operations").objects, "Secret") == []


def test_extra_objects_are_as_they_were_given(major):
    given = {
        "b": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"big": "{{ .Values }}"}},
        "a": {
            "apiVersion": "example.com/v1",
            "kind": "Thing",
            "metadata": {"name": "y", "namespace": "z"},
            "spec": {"n": 3},
        },
    }
    found = render({"extraObjects": {**given, "gone": False}}, major=major)
    assert sorted(found, key=name) == [given["b"], given["a"]]


# One place for images.


def test_every_image_can_be_pinned():
    """With digests in `images` and at the models, nothing that the chart runs goes by a tag alone."""
    digest = "sha256:" + "1" * 64
    images = load_yaml(CHART / "values.yaml")["images"]
    values = {
        "images": {key: {"digest": digest} for key in images},
        "modelDefaults": {"image": {"digest": digest}},
        "runtimes": {"triton": {"engine": {"image": {"digest": digest}}}},
    }
    for file in ("operations", "engine-build"):
        for where, pod in pod_templates(render(values, layers=[VALUES / f"{file}.yaml"])):
            for container in containers(pod):
                assert container["image"].endswith(f"@{digest}"), f"{where} {container['name']}"


def test_images_can_be_mirrored():
    objects = render(
        {"images": {"busybox": {"repository": "registry.example.com/busybox"}}},
        layers=[VALUES / "operations.yaml"],
    )
    used = {
        c["image"]
        for o in of_kind(objects, "DaemonSet")
        for c in containers(o["spec"]["template"])
        if "busybox" in c["image"]
    }
    assert used == {"registry.example.com/busybox:1.37.0-musl"}, [name(o) for o in objects]
