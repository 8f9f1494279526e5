"""Rules about a cluster's nodes where tests/rules has one case, and they have more to get right."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from gpu_inference.cli import main

L4 = {"nvidia.com/gpu.product": "NVIDIA-L4"}
SIZE = {"cpu": 47, "memory": "180Gi", "ephemeral-storage": "400Gi", "nvidia.com/gpu": 4}
MODEL = {"runtime": "vllm", "model": {"source": "hf://org/name"}, "accelerator": {"type": "nvidia-l4"}}


@pytest.fixture
def judge(tmp_path, capsys):
    """What validate says of models on a cluster: [(rule, severity, path, message)]."""

    def judge(models: dict[str, Any], profile: dict[str, Any], *options: str, **values: Any) -> list[tuple[str, ...]]:
        (tmp_path / "values.yaml").write_text(
            yaml.safe_dump({**values, "models": {name: {**MODEL, **own} for name, own in models.items()}})
        )
        (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(profile))
        words = [str(tmp_path / "values.yaml"), "--cluster-profile", str(tmp_path / "cluster.yaml"), *options]
        main(["validate", *words, "-o", "json"])
        keys = ("rule", "severity", "path", "message")
        return [tuple(finding[key] for key in keys) for finding in json.loads(capsys.readouterr().out)["findings"]]

    return judge


def group(count: int = 1, labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return {"count": count, "labels": {**L4, **(labels or {})}, "allocatable": SIZE, **more}


def fixed(replicas: int) -> dict[str, Any]:
    return {"replicas": replicas, "rollout": {"spareGPU": False}}


def test_enough_is_enough(judge):
    assert judge({"a": fixed(4)}, {"nodeGroups": [group()]}) == []
    assert judge({"a": fixed(0)}, {"nodeGroups": []}) == [], "no pods need no node"
    assert judge({"a": fixed(400)}, {}) == [], "nothing is known of the nodes"


def test_one_too_many(judge):
    ((rule, severity, path, message),) = judge({"a": fixed(5)}, {"nodeGroups": [group()]})
    assert (rule, severity, path) == ("pending-pods", "error", "$.models.a.replicas")
    assert message == "5 replicas x 1 GPU = 5, and the nodes that match have 4 (1 x 4 nvidia.com/gpu)"


def test_more_nodes_than_are_there_make_it_a_warning_or_nothing(judge):
    assert judge({"a": fixed(5)}, {"autoscaled": True, "nodeGroups": [group()]}) == []
    assert judge({"a": fixed(5)}, {"nodeGroups": [group(labels={"karpenter.sh/nodepool": "gpu"})]}) == []
    other = {"accelerator": {"type": "nvidia-t4"}}
    ((rule, severity, _, message),) = judge({"a": other}, {"autoscaled": True, "nodeGroups": [group()]})
    assert (rule, severity) == ("no-node", "warning")
    assert message.endswith(", unless an autoscaler adds others")
    assert judge({"a": fixed(5)}, {"autoscaled": True, "nodeGroups": [group(maxCount=2)]}) == []
    ((_, severity, _, message),) = judge({"a": fixed(9)}, {"autoscaled": True, "nodeGroups": [group(maxCount=2)]})
    assert severity == "error"
    assert "8 (2 x 4 nvidia.com/gpu)" in message


def test_an_empty_pool_that_may_grow_counts(judge):
    assert judge({"a": fixed(4)}, {"nodeGroups": [group(0, maxCount=1)]}) == []
    assert judge({"a": fixed(4)}, {"nodeGroups": [group(0)]})[0][0] == "no-node"


def test_what_else_a_node_lacks(judge):
    small = {**SIZE, "memory": "40Gi"}
    ((rule, _, path, message),) = judge({"a": fixed(4)}, {"nodeGroups": [group(2, allocatable=small)]})
    assert (rule, path) == ("pending-pods", "$.models.a.replicas")
    assert message.endswith(
        "have 8 (2 x 4 nvidia.com/gpu), with room for 2 of these pods, "
        "as a node has 40 GiB of memory and a pod asks for 22 GiB of memory"
    )
    tiny = {**SIZE, "memory": "8Gi"}
    ((rule, _, path, message),) = judge({"a": fixed(1)}, {"nodeGroups": [group(allocatable=tiny)]})
    assert (rule, path) == ("node-too-small", "$.models.a.resources.memory.requests")
    assert message == "a pod asks for 22 GiB of memory, and the nodes that match have 8 GiB of memory at most"


def test_gpus_that_are_left_over_on_every_node(judge):
    model = {**fixed(3), "accelerator": {"type": "nvidia-l4", "count": 3}, "parallelism": {"tensor": 3}}
    ((_, _, _, message),) = judge({"a": model}, {"nodeGroups": [group(2), group(labels={"tier": "b"}, count=0)]})
    assert message.startswith("3 replicas x 3 GPUs = 9, and the nodes that match have 8 (2 x 4 nvidia.com/gpu)")
    ((_, _, _, message),) = judge({"a": {**model, **fixed(4)}}, {"nodeGroups": [group(3)]})
    assert message.endswith(
        "with room for 3 of these pods, as a node has 4 nvidia.com/gpu and a pod asks for 3 nvidia.com/gpu"
    )


def test_the_autoscaler_reaches_further_than_the_nodes(judge):
    scaled = {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 10}, "rollout": {"spareGPU": False}}
    ((rule, _, path, message),) = judge({"a": scaled}, {"nodeGroups": [group()]})
    assert (rule, path) == ("pending-pods", "$.models.a.autoscaling.maxReplicas")
    assert message.startswith("10 replicas x 1 GPU = 10, and the nodes that match have 4 (1 x 4 nvidia.com/gpu)")


def test_a_rollout_at_the_peak_is_a_warning(judge):
    scaled = {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 4}}
    ((rule, severity, _, message),) = judge({"a": scaled}, {"nodeGroups": [group()]})
    assert (rule, severity) == ("no-spare-gpu", "warning")
    assert message.startswith("a rollout at 4 replicas needs 5 GPUs, 1 more than it runs on")


def test_groups_take_all_their_pods(judge):
    grouped = {
        "workload": "LeaderWorkerSet",
        "parallelism": {"tensor": 4, "pipeline": 2},
        "accelerator": {"type": "nvidia-l4", "count": 4},
        "storage": {"download": {"by": "server"}},
    }
    found = judge({"a": {**grouped, **fixed(2)}}, {"nodeGroups": [group(3)]})
    (message,) = [message for rule, _, _, message in found if rule == "pending-pods"]
    assert message.startswith("2 replicas x 2 pods x 4 GPUs = 16, and the nodes that match have 12")
    found = judge({"a": {**grouped, "replicas": 1}}, {"nodeGroups": [group(3)]})
    (message,) = [message for rule, _, _, message in found if rule == "no-spare-gpu"]
    assert message.startswith("a rollout needs 16 GPUs, 8 more than it runs on")


def test_two_models_that_fit_alone(judge):
    ((rule, _, path, message),) = judge({"a": fixed(3), "b": fixed(2)}, {"nodeGroups": [group()]})
    assert (rule, path) == ("pending-pods", "$.models.b")
    assert message == "a 3 + b 2 = 5, and the nodes that match have 4 (1 x 4 nvidia.com/gpu)"
    assert judge({"a": fixed(2), "b": fixed(2)}, {"nodeGroups": [group()]}) == []


def test_pods_of_others_are_in_the_way(judge):
    taken = group(requested={"nvidia.com/gpu": 3}, requestedByChart={"nvidia.com/gpu": 1})
    ((rule, severity, _, message),) = judge({"a": fixed(3)}, {"nodeGroups": [taken]})
    assert (rule, severity) == ("pending-pods", "warning")
    assert message.endswith("of which other pods have 2")
    assert judge({"a": fixed(2)}, {"nodeGroups": [taken]}) == [], "pods of the chart may be the release's own"


def test_what_dra_hands_out_is_not_counted(judge):
    """The nodes' status has no nvidia.com/gpu then."""
    sizes = {key: value for key, value in SIZE.items() if "/" not in key}
    profile = {"nodeGroups": [group(allocatable=sizes)]}
    assert judge({"a": fixed(4)}, profile)[0][0] == "node-too-small"
    classes = {"gpu.nvidia.com": {"extendedResourceName": "nvidia.com/gpu"}}
    assert judge({"a": fixed(4)}, {**profile, "deviceClasses": classes}) == []


def test_nodes_that_all_have_what_the_pods_avoid(judge):
    spot = {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true"}
    ((rule, _, path, message),) = judge({"a": fixed(1)}, {"nodeGroups": [group(labels=spot)]}, cloud="gke")
    assert (rule, path) == ("no-node", "$.models.a.capacity")
    assert message == "every node of the profile has cloud.google.com/gke-spot"


def test_mixed_capacity_needs_nodes_of_both_kinds(judge):
    capacity = "eks.amazonaws.com/capacityType"
    base, spot = group(labels={capacity: "ON_DEMAND"}), group(labels={capacity: "SPOT"})
    mixed = {
        "capacity": "mixed",
        "replicas": 2,
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 6},
        "rollout": {"spareGPU": False},
        "drain": {"requestSeconds": 30},
    }
    assert judge({"a": mixed}, {"nodeGroups": [base, spot]}, cloud="eks") == []
    ((rule, _, path, message),) = judge({"a": mixed}, {"nodeGroups": [base]}, cloud="eks")
    assert (rule, path) == ("no-node", "$.models.a.capacity")
    assert f"{capacity}=SPOT" in message
    more = {**mixed, "autoscaling": {**mixed["autoscaling"], "maxReplicas": 7}}
    ((_, _, _, message),) = judge({"a": more}, {"nodeGroups": [base, spot]}, cloud="eks")
    assert message.startswith("5 spot replicas x 1 GPU = 5")


@pytest.mark.parametrize(
    ("product", "fix"),
    [
        ("NVIDIA-L4-SHARED", "set accelerator to {sharing: timeSlicing, shared: {replicas: 4}}"),
        ("NVIDIA-L4-MIG-1g.5gb", "{sharing: mig, mig: {strategy: single, profile: 1g.5gb}}"),
        ("NVIDIA-L40S", "use nvidia-l40s"),
    ],
)
def test_labels_that_nearly_match_say_what_to_write(tmp_path, capsys, product, fix):
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"models": {"a": MODEL}}))
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.replicas": "4"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"nodeGroups": [group(labels=labels)]}))
    main(["validate", str(tmp_path / "values.yaml"), "--cluster-profile", str(tmp_path / "c.yaml")])
    assert fix in capsys.readouterr().out


def test_nodes_of_another_cloud(tmp_path, capsys):
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"models": {"a": MODEL}}))
    labels = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump({"nodeGroups": [{"count": 1, "labels": labels, "allocatable": SIZE}]})
    )
    main(["validate", str(tmp_path / "values.yaml"), "--cluster-profile", str(tmp_path / "c.yaml")])
    assert "these nodes are labelled as on gke: set cloud to what this is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "tier", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "tier", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "tier", "operator": "Exists"}, True),
        ({"key": "other", "operator": "DoesNotExist"}, True),
        ({"key": "other", "operator": "In", "values": ["a"]}, False),
        ({"key": "generation", "operator": "Gt", "values": ["3"]}, True),
        ({"key": "generation", "operator": "Lt", "values": ["4"]}, False),
        ({"key": "tier", "operator": "Gt", "values": ["3"]}, False),
        ({"key": "hidden/label", "operator": "In", "values": ["a"]}, True),
    ],
)
def test_node_affinity(judge, expression, fits):
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    profile = {
        "nodeGroups": [group(labels={"tier": "a", "generation": "4"})],
        "omittedLabels": ["hidden/*"],
    }
    found = judge({"a": {**fixed(1), "pod": {"affinity": affinity}}}, profile)
    assert bool(found) is not fits
    assert {rule for rule, *_ in found} <= {"no-node"}


@pytest.mark.parametrize(
    "pod",
    [
        {"affinity": []},
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [1]}}}},
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": 1}]}}},
        {"nodeSelector": [1]},
    ],
)
def test_an_escape_hatch_may_hold_anything(judge, pod):
    judge({"a": {"pod": pod, "container": {"resources": {"requests": {"cpu": "lots"}}}}}, {"nodeGroups": [group()]})


@pytest.mark.parametrize(
    ("taint", "toleration", "fits"),
    [
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "a", "value": "b"}, True),
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "a", "value": "c"}, False),
        ({"key": "a", "value": "b", "effect": "NoExecute"}, {"key": "a", "operator": "Exists"}, True),
        ({"key": "a", "effect": "NoExecute"}, {"key": "a", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "a", "effect": "PreferNoSchedule"}, {"key": "z", "operator": "Exists"}, True),
    ],
)
def test_taints(judge, taint, toleration, fits):
    found = judge({"a": {**fixed(1), "tolerations": {"own": toleration}}}, {"nodeGroups": [group(taints=[taint])]})
    assert [rule for rule, *_ in found] == ([] if fits else ["untolerated-taint"])


def test_gke_tolerates_the_taint_of_a_resource_that_is_requested(judge):
    tainted = group(taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}])
    model = {**fixed(1), "tolerations": {"gpu": False}}
    assert judge({"a": model}, {"kubernetes": "v1.34.1-gke.100", "nodeGroups": [tainted]}) == []
    assert judge({"a": model}, {"kubernetes": "v1.34.1", "nodeGroups": [tainted]})[0][0] == "untolerated-taint"


def test_node_pools_make_nodes_up_to_their_limits(judge):
    pool: dict[str, Any] = {
        "name": "gpu",
        "requirements": [
            {"key": "karpenter.k8s.aws/instance-gpu-name", "operator": "In", "values": ["l4"]},
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
        ],
    }
    limited = {**pool, "limits": {"nvidia.com/gpu": "4"}}
    assert judge({"a": fixed(40)}, {"nodeGroups": [], "nodePools": [pool]}, cloud="karpenter") == []
    assert judge({"a": fixed(4)}, {"nodeGroups": [], "nodePools": [limited]}, cloud="karpenter") == []
    ((rule, _, _, message),) = judge({"a": fixed(5)}, {"nodeGroups": [], "nodePools": [limited]}, cloud="karpenter")
    assert rule == "pending-pods"
    assert message.endswith("and the NodePools that match make nvidia.com/gpu up to gpu 4")
    spot = {**fixed(1), "capacity": "spot"}
    ((rule, *_),) = judge({"a": spot}, {"nodeGroups": [], "nodePools": [pool]}, cloud="karpenter")
    assert rule == "no-node"


def test_spreading_over_zones_with_room(judge):
    zones = [group(1, {"topology.kubernetes.io/zone": zone}) for zone in ("a", "b")]
    spread = {"topology.kubernetes.io/zone": "DoNotSchedule"}
    assert judge({"a": {**fixed(8), "spread": spread}}, {"nodeGroups": zones}) == []
    uneven = [zones[0], {**zones[1], "allocatable": {**SIZE, "nvidia.com/gpu": 1}}]
    ((rule, _, path, message),) = judge({"a": {**fixed(4), "spread": spread}}, {"nodeGroups": uneven})
    assert (rule, path) == ("spread", '$.models.a.spread["topology.kubernetes.io/zone"]')
    assert message == "of 4 pods that must be spread evenly only 3 can run: there is room for 4 in a, 1 in b"
    assert judge({"a": {**fixed(3), "spread": spread}}, {"nodeGroups": uneven}) == []


def test_spreading_by_a_label_that_no_node_has(judge):
    spread = {"spread": {"example.com/rack": "DoNotSchedule"}}
    ((rule, _, _, message),) = judge({"a": {**fixed(1), **spread}}, {"nodeGroups": [group()]})
    assert rule == "spread"
    assert message.startswith("no node that matches has the label example.com/rack")
    profile = {"nodeGroups": [group()], "omittedLabels": ["example.com/*"]}
    assert judge({"a": {**fixed(1), **spread}}, profile) == []


def test_spreading_over_nodes(judge):
    spread = {"spread": {"kubernetes.io/hostname": "DoNotSchedule"}}
    assert judge({"a": {**fixed(8), **spread}}, {"nodeGroups": [group(2)]}) == []
    small = {**group(), "allocatable": {**SIZE, "nvidia.com/gpu": 1}}
    ((_, _, _, message),) = judge({"a": {**fixed(4), **spread}}, {"nodeGroups": [group(), small]})
    assert message == "of 4 pods that must be spread evenly only 3 can run: on 2 nodes"


def test_anti_affinity_against_others_is_not_ours(judge):
    term = {"labelSelector": {"matchLabels": {"app": "noisy"}}, "topologyKey": "kubernetes.io/hostname"}
    pod = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
    assert judge({"a": {**fixed(4), "pod": pod}}, {"nodeGroups": [group()]}) == []


def test_metrics_need_their_api(judge):
    scaled = {"autoscaling": {"enabled": True, "target": {"cpuUtilization": 70}}}
    found = judge({"a": scaled}, {"apis": {"metrics.k8s.io/v1beta1": []}})
    assert [(rule, path) for rule, _, path, _ in found] == [
        ("missing-api", "$.models.a.autoscaling.target.requestsInFlight")
    ]
    served = {"metrics.k8s.io/v1beta1": [], "external.metrics.k8s.io/v1beta1": []}
    assert judge({"a": scaled}, {"apis": served}) == []


def test_a_claim_without_a_class_needs_a_default(judge):
    claims = {"cache": {"mountPath": "/cache", "size": "50Gi", "accessModes": ["ReadWriteMany"]}}
    ((rule, *_),) = judge({"a": {"claims": claims}}, {"storageClasses": {"efs": {}}})
    assert rule == "storage-class"
    assert judge({"a": {"claims": claims}}, {"storageClasses": {"efs": {"default": True}}}) == []


def test_the_version_on_the_command_line_counts_for_more(judge):
    oci = {"model": {"source": "oci://registry.example.com/m:1"}}
    assert [rule for rule, *_ in judge({"a": oci}, {"kubernetes": "v1.34.0"})] == ["image-volume"]
    assert judge({"a": oci}, {"kubernetes": "v1.34.0"}, "--kube-version", "1.35") == []


@pytest.mark.parametrize(
    ("tag", "warned"),
    [
        ("v1-cu130", True),
        ("v1-cu129", False),
        ("server-cuda13.0", True),
        ("server-cuda-13.1", True),
        ("server-cuda-b11206", False),
        ("v0.33.0", False),
    ],
)
def test_drivers(judge, tag, warned):
    labels = {"nvidia.com/cuda.runtime-version.major": "12"}
    found = judge({"a": {**fixed(1), "image": {"tag": tag}}}, {"nodeGroups": [group(labels=labels)]})
    assert [rule for rule, *_ in found] == (["driver"] if warned else [])


def test_wrong_options_are_said_in_one_line(tmp_path, capsys):
    (tmp_path / "values.yaml").write_text("models: {}\n")
    for words in (("--kube-version", "new"), ("--cluster-profile", str(tmp_path / "none.yaml"))):
        assert main(["validate", str(tmp_path / "values.yaml"), *words]) == 2
        assert capsys.readouterr().err.count("\n") == 2
