"""Reading a cluster profile, and making one of what an API server answers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest
import yaml

from gpu_inference.cluster import collect, inventory, quantity
from gpu_inference.cluster.profile import load_profile, version
from gpu_inference.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "profile.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("nodeGroup: []\n", "1:1", "$.nodeGroup: unknown key `nodeGroup`"),
        ("nodeGroups:\n  - {count: -1, allocatable: {}}\n", "2:13", "$.nodeGroups[0].count: -1 is less than"),
        ("nodeGroups:\n  - {count: 1}\n", "2:5", "$.nodeGroups[0]: 'allocatable' is a required property"),
        ("nodeGroups:\n  - {count: 1, allocatable: {cpu: lots}}\n", "2:35", "allocatable.cpu: 'lots' is no amount"),
        (
            "nodeGroups:\n- count: 1\n  allocatable: {cpu: 1}\n  taints:\n  - {key: a, effect: Never}\n",
            "5:22",
            "'Never' is not",
        ),
        ("kubernetes: latest\n", "1:13", "$.kubernetes: 'latest' does not match"),
        ("kubernetes: 1.34\n", "1:13", "$.kubernetes: 1.34 is not of type 'string'"),
        ("a: [\n", "2:1", ""),
        ("apis: {}\napis: {}\n", "2:1", "apis"),
    ],
)
def test_what_is_no_profile_is_refused_at_its_place(write, text, place, message):
    path = write(text)
    with pytest.raises(UserError) as caught:
        load_profile(path)
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith(f"{path}:{place}: ")
    assert message in caught.value.message
    assert caught.value.fix


def test_what_a_profile_does_not_tell_is_not_known(write):
    profile = load_profile(write("{}\n"))
    known = (profile.kubernetes, profile.groups, profile.apis, profile.storage_classes, profile.priority_classes)
    assert known == (None,) * 5
    assert profile.omits("kubernetes.io/hostname")
    assert not profile.omits("topology.kubernetes.io/zone")


@pytest.mark.parametrize("text", ["1.34", "v1.34", "v1.34.2", "1.34.1-gke.1829", "v1.34.0+k3s1"])
def test_versions(text):
    assert version(text) == (1, 34)


@pytest.mark.parametrize("text", ["", "1", "1.x", "one", "v1.34beta", "1.34;"])
def test_no_versions(text):
    with pytest.raises(UserError, match="no Kubernetes version"):
        version(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("500m", Fraction(1, 2)), ("64Gi", 64 * 2**30), ("1.5", Fraction(3, 2)), (8, 8), ("2k", 2000), ("1Ki", 1024)],
)
def test_quantities(text, amount):
    assert quantity.parse(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "1/0", "-1", "1e999", "1Xi", "nan", "[1]"])
def test_no_quantities(text):
    with pytest.raises(ValueError, match="no quantity"):
        quantity.parse(text)


def test_quantities_for_people():
    assert quantity.show(Fraction(96 * 2**30), "memory") == "96 GiB of memory"
    assert quantity.show(Fraction(15, 2), "cpu") == "7.5 CPU"
    assert quantity.show(Fraction(8), "nvidia.com/gpu") == "8 nvidia.com/gpu"


def pod(node: str, gpus: int, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "labels": {key.replace("_", "/"): value for key, value in labels.items()}},
        "spec": {
            "nodeName": node,
            "containers": [{"resources": {"requests": {"nvidia.com/gpu": str(gpus), "cpu": "1"}}}, {}],
        },
        "status": {"phase": "Running"},
    }


def answers() -> dict[str, Any]:
    """Path -> what an API server says of GKE's nodes, of a Prometheus and a NodePool."""
    theirs = pod("h100-0", 2, app="other")
    done = {**pod("h100-0", 8), "status": {"phase": "Succeeded"}}
    ours = pod("h100-0", 4, **{"app.kubernetes.io_name": "gpu-inference"})
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    selector = {"matchLabels": {"release": "main"}}
    template = {
        "metadata": {"labels": {"team": "ml"}},
        "spec": {
            "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
            "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}],
            "terminationGracePeriod": "1h30m",
        },
    }
    return {
        "/version": {"gitVersion": "v1.34.1-gke.100"},
        "/api/v1/nodes": inventory.nodes("gke"),
        "/api/v1/pods": [theirs, done, ours, pod("", 8)],
        "/apis/keda.sh/v1alpha1": {"resources": [{"kind": "ScaledObject"}, {"kind": "ScaledJob"}]},
        "/apis/metrics.k8s.io/v1beta1": {"resources": [{"kind": "NodeMetrics"}]},
        "/apis/storage.k8s.io/v1/storageclasses": [
            {"metadata": {"name": "standard", "annotations": default}},
            {"metadata": {"name": "premium"}},
        ],
        "/apis/networking.k8s.io/v1/ingressclasses": [{"metadata": {"name": "nginx"}}],
        "/apis/scheduling.k8s.io/v1/priorityclasses": [{"metadata": {"name": "serving"}, "value": 1000}],
        "/apis/monitoring.coreos.com/v1/prometheuses": [
            {"metadata": {"name": "main"}, "spec": {"podMonitorSelector": selector, "ruleSelector": {}}}
        ],
        "/apis/karpenter.sh/v1/nodepools": [
            {"metadata": {"name": "gpu"}, "spec": {"template": template, "limits": {"nvidia.com/gpu": "16"}}}
        ],
    }


def reader(known: dict[str, Any], forbidden: tuple[str, ...] = (), page: int = 3) -> collect.Get:
    """Answers as an API server does, lists a few items at a time."""

    def get(path: str) -> Any:
        bare, _, query = path.partition("?")
        if bare in forbidden:
            raise LookupError(f"the credentials may not read {bare}")
        answer = known.get(bare)
        if not isinstance(answer, list):
            return answer
        start = int((re.search(r"continue=(\d+)", query) or ["", "0"])[1])
        more = {"continue": str(start + page)} if start + page < len(answer) else {}
        return {"items": answer[start : start + page], "metadata": more}

    return get


def test_a_profile_of_what_the_api_server_answers(write):
    notes: list[str] = []
    found = collect.collect(reader(answers()), notes.append)
    assert notes == []
    profile = load_profile(write(collect.text(found)))
    assert profile.kubernetes == (1, 34)
    assert profile.apis == {"keda.sh/v1alpha1": ["ScaledObject"], "metrics.k8s.io/v1beta1": []}
    assert profile.storage_classes == {"premium": {}, "standard": {"default": True}}
    assert profile.priority_classes == {"serving": 1000}
    assert profile.ingress_classes == ["nginx"]
    assert not profile.autoscaled
    (prometheus,) = profile.prometheuses
    assert prometheus == {
        "name": "main",
        "podMonitorSelector": {"matchLabels": {"release": "main"}},
        "ruleSelector": {},
    }
    (made,) = profile.pools
    assert (made.grace_seconds, made.limits) == (5400, {"nvidia.com/gpu": 16})
    assert made.labels == {"team": "ml", "karpenter.sh/nodepool": "gpu"}
    # Two zones: nodes that differ in nothing else are counted apart.
    pools = {(group.labels["cloud.google.com/gke-nodepool"], group.count) for group in profile.groups}
    assert pools == {("h100", 1), ("h100-spot", 1), ("l4", 2), ("l4-spot", 1), ("cpu", 1)}
    h100 = next(group for group in profile.groups if group.labels["cloud.google.com/gke-nodepool"] == "h100")
    assert h100.others == {"nvidia.com/gpu": 2}
    assert h100.allocatable["nvidia.com/gpu"] == 8
    assert h100.taints == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert not any("hostname" in label for group in profile.groups for label in group.labels)


def test_a_profile_is_the_same_whatever_the_order():
    known = answers()
    backwards = {path: answer[::-1] if isinstance(answer, list) else answer for path, answer in known.items()}
    texts = {collect.text(collect.collect(reader(data), print)) for data in (known, backwards)}
    assert len(texts) == 1


def test_what_may_not_be_read_is_left_out_and_said(write):
    forbidden = (
        "/apis/storage.k8s.io/v1/storageclasses",
        "/api/v1/pods",
        "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status",
    )
    notes: list[str] = []
    profile = load_profile(write(collect.text(collect.collect(reader(answers(), forbidden), notes.append))))
    assert profile.storage_classes is None
    assert [note.partition(" is left out")[0] for note in notes] == ["storageClasses", "what pods request"]
    assert profile.autoscaled, "who cannot look has to expect it"


def test_labels_that_tell_nodes_apart_are_omitted_by_name():
    nodes = [node for cloud in ("gke", "eks") for node in inventory.nodes(cloud)]
    for number, node in enumerate(nodes):
        node["metadata"]["labels"] |= {"example.com/machine": f"m-{number}", "feature.node.kubernetes.io/cpu": "x"}
        node["metadata"]["labels"] |= {"topology.kubernetes.io/zone": f"zone-{number}"}
    omitted = collect.omitted_labels(nodes)
    assert "example.com/machine" in omitted
    assert "topology.kubernetes.io/zone" not in omitted
    for group in collect.node_groups(nodes, [], omitted):
        assert "topology.kubernetes.io/zone" in group["labels"]
        assert not {"example.com/machine", "feature.node.kubernetes.io/cpu"} & group["labels"].keys()


def test_nodes_that_take_no_pods_do_not_count():
    nodes = inventory.nodes("gke")
    for node in nodes[1:]:
        node["spec"]["unschedulable"] = True
    nodes[0]["spec"]["taints"].append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})
    (group,) = collect.node_groups(nodes, [], collect.omitted_labels(nodes))
    assert group["count"] == 1
    assert [taint["key"] for taint in group["taints"]] == ["nvidia.com/gpu"], "what comes and goes is no property"


def test_equal_machines_differ_by_a_little_memory():
    nodes = inventory.nodes("eks")
    for number, node in enumerate(nodes):
        node["status"]["allocatable"]["memory"] = f"{200 * 2**20 + 17 * number}Ki"
    groups = collect.node_groups(nodes, [], collect.omitted_labels(nodes))
    assert {group["allocatable"]["memory"] for group in groups} == {"200Gi"}


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1h30m", 5400), ("72h", 259200), ("1m500ms", 60)])
def test_durations(text, seconds):
    assert collect.seconds(text) == seconds


@pytest.mark.parametrize("cloud", inventory.known())
def test_a_profile_makes_the_nodes_it_was_made_of(write, cloud):
    nodes = inventory.nodes(cloud)
    omitted = collect.omitted_labels(nodes)
    groups = collect.node_groups(nodes, [], omitted)
    path = write(collect.text({"omittedLabels": omitted, "nodeGroups": groups}))
    made = inventory.nodes(str(path))
    assert len(made) == len(nodes)
    assert collect.node_groups(made, [], omitted) == groups
    assert inventory.admission_plugins(str(path)) == []


def test_the_file_says_what_it_is():
    text = collect.text({"kubernetes": "v1.36.3"})
    assert text.startswith("# ")
    assert yaml.safe_load(text) == {"kubernetes": "v1.36.3"}
