"""Kinds of workload: names and claims of a StatefulSet's pods, rollouts, and what points at the workload."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.utils.quantity import parse_quantity
from support.expected import over
from support.matrix import Case, minimal_model, scenario
from support.objects import is_headless, maybe, of_kind, one, selects, server
from support.render import render
from support.views import models
from support.workload_problems import ONCE

from gpu_inference.paths import VALUES

MANY = {**ONCE, "accessModes": ["ReadWriteMany"]}


def objects(source: str = "hf://o/n", major: int = 4, **changes: Any) -> list[dict[str, Any]]:
    """What is rendered for one model called m."""
    model = over(minimal_model("vllm", "nvidia-l4"), {"model": {"source": source}, **changes})
    return render({"models": {"m": model}}, major=major)


def mounts(workload: dict[str, Any]) -> dict[str, str]:
    return {m["mountPath"]: m["name"] for m in server(workload)["volumeMounts"]}


def volumes(workload: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {v["name"]: v for v in workload["spec"]["template"]["spec"]["volumes"]}


def test_three_replicas_with_a_disk_each():
    """3 replicas, each with 100 GiB that one node may mount."""
    (model,) = [m for m in models(scenario("stateful")) if m.kind == "StatefulSet"]
    spec = model.workload["spec"]
    assert spec["replicas"] == 3
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "100Gi"}}
    assert mounts(model.workload)["/cache"] == claim["metadata"]["name"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_the_pods_of_a_statefulset_have_names(major):
    """Its headless Service exists, gives names to its pods only, and takes no requests."""
    found = objects(workload="StatefulSet", rollout={"spareGPU": False}, major=major)
    stateful = one(found, "StatefulSet", "m")
    (headless,) = [o for o in found if is_headless(o)]
    assert stateful["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["selector"] == stateful["spec"]["selector"]["matchLabels"]
    facing = one([o for o in found if not is_headless(o)], "Service", "m")
    # A monitor that selects Services by the server's labels must find one, or every pod is scraped twice.
    assert facing["spec"]["selector"].items() <= facing["metadata"]["labels"].items()
    assert not headless["spec"]["selector"].items() <= headless["metadata"]["labels"].items()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_pods_do_not_depend_on_the_kind(kind):
    """One template: security, drain, probes and arguments are the same whatever makes the pods."""
    pods = {}
    for workload in ("Deployment", kind):
        found = objects(workload=workload, rollout={"spareGPU": False})
        pods[workload] = one(found, workload, "m")["spec"]["template"]
        spread = {"Deployment": "pod-template-hash", "StatefulSet": "controller-revision-hash"}
        constraints = pods[workload]["spec"]["topologySpreadConstraints"]
        assert constraints
        assert all(constraint["matchLabelKeys"] == [spread[workload]] for constraint in constraints)

    def rest(pod: dict[str, Any]) -> dict[str, Any]:
        return {**pod, "spec": {k: v for k, v in pod["spec"].items() if k != "topologySpreadConstraints"}}

    assert rest(pods[kind]) == rest(pods["Deployment"])


@pytest.mark.parametrize(("kind", "api"), [("Deployment", "apps/v1"), ("StatefulSet", "apps/v1")])
def test_the_autoscaler_follows_the_workload(kind, api):
    found = objects(workload=kind, rollout={"spareGPU": False}, autoscaling={"enabled": True, "minReplicas": 2})
    workload, hpa = one(found, kind, "m"), one(found, "HorizontalPodAutoscaler", "m")
    target = {"apiVersion": api, "kind": kind, "name": workload["metadata"]["name"]}
    assert hpa["spec"]["scaleTargetRef"] == target
    assert "replicas" not in workload["spec"]
    assert one(found, "PodDisruptionBudget", "m")
    assert len(of_kind(found, "Deployment", "StatefulSet")) == 1


def test_a_claim_of_a_deployment_is_shared_and_kept():
    found = objects(replicas=3, claims={"data": {**MANY, "storageClassName": "files"}})
    claim, deployment = one(found, "PersistentVolumeClaim", "m"), one(found, "Deployment", "m")
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "files",
        "resources": {"requests": {"storage": "100Gi"}},
    }
    name = claim["metadata"]["name"]
    assert volumes(deployment)["data"]["persistentVolumeClaim"] == {"claimName": name}
    assert mounts(deployment)["/data"] == "data"
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_claim_may_go_with_the_release():
    gone = {"claimRetention": {"whenDeleted": "Delete"}}
    claim = one(objects(replicas=3, claims={"data": MANY}, storage=gone), "PersistentVolumeClaim", "m")
    assert "annotations" not in claim["metadata"]
    stateful = objects(workload="StatefulSet", rollout={"spareGPU": False}, claims={"data": ONCE}, storage=gone)
    policy = one(stateful, "StatefulSet", "m")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": "Delete", "whenScaled": "Retain"}
    assert maybe(stateful, "PersistentVolumeClaim", "m") is None


def test_a_claim_stands_in_for_the_cache():
    """Downloaded weights then take no disk of the node."""
    plain = one(objects(), "Deployment", "m")
    kept = one(objects(claims={"cache": {**MANY, "mountPath": "/cache"}}), "Deployment", "m")
    assert "emptyDir" in volumes(plain)["cache"]
    assert "persistentVolumeClaim" in volumes(kept)["cache"]
    assert mounts(plain) == mounts(kept)
    disk = [server(d)["resources"]["limits"]["ephemeral-storage"] for d in (plain, kept)]
    freed = parse_quantity(disk[0]) - parse_quantity(disk[1])
    assert freed == parse_quantity(volumes(plain)["cache"]["emptyDir"]["sizeLimit"])


def test_an_inherited_claim_can_be_removed(major):
    values = {
        "modelDefaults": {"claims": {"data": MANY}},
        "models": {"m": {**minimal_model("vllm", "nvidia-l4"), "claims": {"data": False}}},
    }
    assert of_kind(render(values, major=major), "PersistentVolumeClaim") == []


def test_recreate_leaves_no_old_pod():
    strategy = one(objects(rollout={"strategy": "Recreate", "spareGPU": False}), "Deployment", "m")["spec"]["strategy"]
    assert strategy == {"type": "Recreate"}


def test_ordered_pods_are_a_choice():
    changes = {"workload": "StatefulSet", "rollout": {"spareGPU": False, "podManagementPolicy": "OrderedReady"}}
    assert one(objects(**changes), "StatefulSet", "m")["spec"]["podManagementPolicy"] == "OrderedReady"


def test_claims_of_the_scenarios_can_be_mounted():
    """No disk of one node is asked for by pods of two."""
    case = Case("stateful", (VALUES / "stateful.yaml",))
    for model in models(case):
        shared = maybe(case.objects, "PersistentVolumeClaim", model.name)
        if shared and shared["spec"]["accessModes"] == ["ReadWriteOnce"]:
            assert model.workload["spec"]["replicas"] == 1
            assert model.workload["spec"]["strategy"]["type"] == "Recreate"


# Groups.


def group(**changes: Any) -> list[dict[str, Any]]:
    spread = {"accelerator": {"count": 4}, "parallelism": {"tensor": 4, "pipeline": 3}}
    return objects(workload="LeaderWorkerSet", **spread, **changes)


def members(found: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    template = one(found, "LeaderWorkerSet", "m")["spec"]["leaderWorkerTemplate"]
    return template["leaderTemplate"], template["workerTemplate"]


def test_a_group_has_a_pod_for_each_stage_and_its_gpus():
    found = group(replicas=2)
    spec = one(found, "LeaderWorkerSet", "m")["spec"]
    assert (spec["replicas"], spec["leaderWorkerTemplate"]["size"]) == (2, 3)
    # Else the group's headless Service would have the name of the Service in front, which gives pods no names.
    assert spec["networkConfig"] == {"subdomainPolicy": "UniquePerReplica"}
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert spec["rolloutStrategy"]["rollingUpdateConfiguration"] == {"maxSurge": 1, "maxUnavailable": 0}
    for pod in members(found):
        args = pod["spec"]["containers"][0]["args"]
        assert args[args.index("--tensor-parallel-size") + 1] == "4"
        assert args[args.index("--pipeline-parallel-size") + 1] == args[args.index("--nnodes") + 1] == "3"
        # Kubernetes puts the controller's variables in their place: no shell between it and the server.
        assert args[args.index("--node-rank") + 1] == "$(LWS_WORKER_INDEX)"
        assert args[args.index("--master-addr") + 1] == "$(LWS_LEADER_ADDRESS)"
        assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 4


def test_only_the_leader_answers():
    """Neither the Service nor a scrape nor a probe may reach a worker, which listens to nobody."""
    found = group(replicas=2, monitoring={"podMonitor": {"enabled": True}})
    leader, worker = (pod["metadata"] for pod in members(found))
    for kind in ("Service", "PodMonitor"):
        selector = one(found, kind, "m")["spec"]["selector"]
        assert selects(selector, leader["labels"]), kind
        assert not selects(selector, worker["labels"]), kind
    leader, worker = (pod["metadata"]["annotations"] for pod in members(group(replicas=2)))
    assert "prometheus.io/scrape" in leader
    assert "prometheus.io/scrape" not in worker
    answering, silent = (pod["spec"]["containers"][0] for pod in members(found))
    own = {"ports", "startupProbe", "readinessProbe", "livenessProbe"}
    assert own <= answering.keys() and not own & silent.keys()
    assert silent["args"] == [*answering["args"], "--headless"]


def test_a_worker_outlives_the_leaders_requests():
    """It holds a part of the model: gone first, it would take every answer in flight with it."""
    leader, worker = members(group(drain={"preStopSeconds": 10, "requestSeconds": 120}))
    stays = [pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] for pod in (leader, worker)]
    assert stays == [10, 130]
    assert leader["spec"]["terminationGracePeriodSeconds"] == worker["spec"]["terminationGracePeriodSeconds"] > 130


def test_groups_are_scaled_and_protected_whole():
    found = group(autoscaling={"enabled": True, "minReplicas": 1, "maxReplicas": 3})
    workload, hpa = one(found, "LeaderWorkerSet", "m"), one(found, "HorizontalPodAutoscaler", "m")
    assert hpa["spec"]["scaleTargetRef"] == {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "name": workload["metadata"]["name"],
    }
    assert "replicas" not in workload["spec"]
    budget = one(found, "PodDisruptionBudget", "m")["spec"]["selector"]
    assert all(selects(budget, pod["metadata"]["labels"]) for pod in members(found))


def test_a_group_leaves_the_presets_alone():
    """Its arguments are its own: the same runtime beside it, as a Deployment, gets none of them."""
    model = minimal_model("vllm", "nvidia-l4")
    spread = {**model, "workload": "LeaderWorkerSet", "parallelism": {"pipeline": 2}}
    for names in (("a", "b"), ("b", "a")):
        found = render({"models": dict(zip(names, (spread, model), strict=True))})
        assert "--nnodes" not in server(one(found, "Deployment", names[1]))["args"]
        assert one(found, "Deployment", names[1]) == one(render({"models": {names[1]: model}}), "Deployment")
