"""On-demand and spot pods of one model, spread, priorities and balloons."""

from __future__ import annotations

import copy

import pytest
from support.expected import over
from support.matrix import CLOUDS, minimal_model
from support.objects import model_of, of_kind, one, pod_templates, selects
from support.render import NAMESPACE, RELEASE, load_yaml, render
from support.views import Model

from gpu_inference.paths import CHART

GPU = "nvidia-h100"  # every cloud that has spot nodes offers it
SPOT_CLOUDS = [cloud for cloud in CLOUDS if "spot" in load_yaml(CHART / f"clouds/{cloud}.yaml")]
SCALING = {"enabled": True, "minReplicas": 1, "maxReplicas": 10, "target": {"requestsInFlight": 7}}
MIXED = {"capacity": "mixed", "replicas": 3, "autoscaling": SCALING}


def view(cloud: str = "eks", values: dict | None = None, runtime: str = "vllm", **changes) -> Model:
    """A model called m, as rendered."""
    spec = over(minimal_model(runtime, GPU), changes)
    objects = render({"cloud": cloud, "models": {"m": spec}, **(values or {})})
    return Model("m", {"workload": "Deployment", **spec}, objects)


def pod_of(deployment: dict) -> dict:
    return deployment["spec"]["template"]


@pytest.mark.parametrize("cloud", SPOT_CLOUDS)
def test_mixed_is_on_demand_and_spot_pods_of_one_model(cloud):
    """Each kind of pods as the capacity of that name renders it, but for the label that tells spot pods apart."""
    drain = {"drain": {"preStopSeconds": 1, "requestSeconds": 1}}
    model = view(cloud, **MIXED, **drain)
    on_demand, spot = (view(cloud, capacity=side, **drain) for side in ("onDemand", "spot"))
    assert pod_of(model.workload) == pod_of(on_demand.workload)
    burst = copy.deepcopy(pod_of(model.burst))
    for labels in (burst["metadata"]["labels"], *_spread_labels(burst)):
        assert labels.pop("gpu-inference.io/capacity") == "spot"
    assert burst == pod_of(spot.workload)
    assert pod_of(model.workload)["spec"] != burst["spec"], "nothing tells the nodes apart"


def _spread_labels(pod: dict) -> list[dict]:
    return [c["labelSelector"]["matchLabels"] for c in pod["spec"]["topologySpreadConstraints"]]


def test_the_base_is_fixed_and_the_autoscaler_owns_the_rest():
    """It counts all pods, so that limits and target mean what they mean without a base."""
    for base, least, most in [(3, 1, 10), (1, 4, 5), (2, 6, 1000)]:
        scaling = {**SCALING, "minReplicas": least, "maxReplicas": most}
        model = view(capacity="mixed", replicas=base, autoscaling=scaling)
        assert model.workload["spec"]["replicas"] == base
        assert "replicas" not in model.burst["spec"]
        (hpa,) = of_kind(model.objects, "HorizontalPodAutoscaler")
        assert hpa["spec"]["scaleTargetRef"]["name"] == model.burst["metadata"]["name"] == f"{RELEASE}-m-spot"
        assert hpa["spec"]["maxReplicas"] + base == most
        assert hpa["spec"]["minReplicas"] == max(least - base, 1), "an autoscaler never goes to zero"
        assert hpa["spec"]["behavior"] == load_yaml(CHART / "values.yaml")["modelDefaults"]["autoscaling"]["behavior"]


def test_the_signal_is_the_load_of_all_pods_beyond_what_the_base_bears():
    """Not the spot pods' own: it would fall, and take spot pods away, just when spot nodes are lost."""
    plain = view(autoscaling=SCALING).hpa["spec"]["metrics"][0]["external"]
    mixed = view(**MIXED).hpa["spec"]["metrics"][0]["external"]
    assert mixed["target"] == plain["target"]
    assert mixed["metric"]["name"] == plain["metric"]["name"]
    assert mixed["metric"]["selector"]["matchLabels"] == plain["metric"]["selector"]["matchLabels"]
    (beyond,) = mixed["metric"]["selector"]["matchExpressions"]
    # prometheus-adapter makes `label!~"21"` of it, which every series without the label satisfies.
    assert beyond == {"key": "gpu_inference_io_base_requests", "operator": "NotIn", "values": [str(3 * 7)]}
    assert "matchExpressions" not in plain["metric"]["selector"]


def test_what_selects_a_model_selects_both_kinds_of_pods():
    model = view(
        **MIXED,
        networkPolicy={"enabled": True},
        monitoring={"podMonitor": {"enabled": True}},
        gateway={"enabled": True, "parentRefs": [{"name": "g"}], "endpointPicker": {"name": "epp", "port": 9002}},
    )
    pods = [pod_of(d)["metadata"]["labels"] for d in (model.workload, model.burst)]
    selectors = {
        "Service": lambda o: o["spec"]["selector"],
        "PodDisruptionBudget": lambda o: o["spec"]["selector"],
        "NetworkPolicy": lambda o: o["spec"]["podSelector"],
        "PodMonitor": lambda o: o["spec"]["selector"],
        "InferencePool": lambda o: o["spec"]["selector"],
    }
    for kind, selector in selectors.items():
        obj = one(model.objects, kind, model.name)
        assert [selects(selector(obj), labels) for labels in pods] == [True, True], kind
    # The spot Deployment takes no pod of the base; both share identity, files and claims.
    assert not selects(model.burst["spec"]["selector"], pods[0])
    assert len(of_kind(model.objects, "ServiceAccount", "Service")) == 2


def test_capacity_can_be_changed():
    """Selectors cannot: the base is the Deployment it was, and no pod of it restarts."""
    before, after = view(replicas=3), view(**MIXED)
    assert after.workload["metadata"] == before.workload["metadata"]
    assert after.workload["spec"] == before.workload["spec"]
    assert view(autoscaling=SCALING).workload["spec"]["template"] == before.workload["spec"]["template"]


def test_a_model_beside_a_mixed_one_is_as_without_it():
    other = minimal_model("vllm", GPU)
    both = render({"cloud": "eks", "models": {"m": over(minimal_model("vllm", GPU), MIXED), "o": other}})
    alone = render({"cloud": "eks", "models": {"o": other}})
    assert [o for o in both if model_of(o) == "o"] == [o for o in alone if model_of(o) == "o"]


@pytest.mark.parametrize("cloud", SPOT_CLOUDS)
@pytest.mark.parametrize("capacity", ["spot", "mixed"])
def test_spot_nodes_can_be_a_preference(cloud, capacity):
    """Then the pods may run anywhere the on-demand pods may, and on spot nodes."""
    marks = load_yaml(CHART / f"clouds/{cloud}.yaml")["spot"]
    changes = {**MIXED, "capacity": capacity, "nodeSelector": {"zone": "a"}}
    required, preferred = (view(cloud, **changes, spot={"fallback": fallback}) for fallback in (False, True))
    pods = [pod_of(m.burst if capacity == "mixed" else m.workload)["spec"] for m in (required, preferred)]
    wanted = {k: v for k, v in pods[0]["nodeSelector"].items() if k not in marks["nodeSelector"]}
    assert pods[1]["nodeSelector"] == wanted and wanted["zone"] == "a"
    (term,) = pods[1]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    found = {e["key"]: e["values"] for e in term["preference"]["matchExpressions"]}
    assert found == {key: [value] for key, value in marks["nodeSelector"].items()}
    assert pods[1].get("tolerations") == pods[0].get("tolerations")
    if capacity == "mixed":  # the base is no spot pod
        assert pod_of(preferred.workload) == pod_of(required.workload)


def test_a_spot_label_the_user_selects_stays_required():
    labels = load_yaml(CHART / "clouds/eks.yaml")["spot"]["nodeSelector"]
    own = {key: f"{value}-OWN" for key, value in labels.items()}
    pod = pod_of(view(capacity="spot", spot={"fallback": True}, nodeSelector=own).workload)["spec"]
    assert own.items() <= pod["nodeSelector"].items()
    assert "affinity" not in pod


def test_preference_and_labels_a_node_must_not_have():
    model = view(capacity="spot", spot={"fallback": True}, absentNodeLabels={"node.example.com/maintenance": True})
    affinity = pod_of(model.workload)["spec"]["affinity"]["nodeAffinity"]
    (required,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert required["matchExpressions"] == [{"key": "node.example.com/maintenance", "operator": "DoesNotExist"}]
    assert len(affinity["preferredDuringSchedulingIgnoredDuringExecution"]) == 1


# Spread.


def spread(pod: dict) -> dict[str, str]:
    return {c["topologyKey"]: c["whenUnsatisfiable"] for c in pod["spec"].get("topologySpreadConstraints", [])}


def test_pods_are_spread_over_nodes_and_zones_and_what_the_user_adds():
    default = {"kubernetes.io/hostname": "ScheduleAnyway", "topology.kubernetes.io/zone": "ScheduleAnyway"}
    assert spread(pod_of(view().workload)) == default
    own = {"topology.kubernetes.io/zone": "DoNotSchedule", "pool": "ScheduleAnyway", "kubernetes.io/hostname": False}
    wanted = {"topology.kubernetes.io/zone": "DoNotSchedule", "pool": "ScheduleAnyway"}
    assert spread(pod_of(view(spread=own).workload)) == wanted
    pod = pod_of(view(spread=dict.fromkeys(default, False)).workload)
    assert "topologySpreadConstraints" not in pod["spec"]


def test_the_spread_counts_pods_of_one_version(models):
    """Old pods, which go anyway, would push the new ones to one side."""
    for model in models:
        for constraint in model.pod["spec"]["topologySpreadConstraints"]:
            assert constraint["maxSkew"] == 1
            assert selects(constraint["labelSelector"], model.pod["metadata"]["labels"])
            assert len(constraint["matchLabelKeys"]) == 1


# Priorities.


CLASSES = {"serving": {"value": 1000}, "batch": {"value": -7, "preemptionPolicy": "Never"}}


def test_priority_classes_are_the_releases():
    """Objects of the whole cluster, of which no number can be changed: another number is another name."""
    model = view(values={"priorityClasses": CLASSES}, priorityClassName="serving")
    found = {o["metadata"]["name"]: o for o in of_kind(model.objects, "PriorityClass")}
    assert found.keys() == {f"{RELEASE}-{NAMESPACE}-serving-1000", f"{RELEASE}-{NAMESPACE}-batch--7-never"}
    for title, made in found.items():
        assert "namespace" not in made["metadata"]
        assert "globalDefault" not in made, "it would change pods of others"
        assert made.get("preemptionPolicy") == ("Never" if title.endswith("never") else None)
    assert pod_of(model.workload)["spec"]["priorityClassName"] == f"{RELEASE}-{NAMESPACE}-serving-1000"
    assert found[f"{RELEASE}-{NAMESPACE}-serving-1000"]["value"] == 1000


def test_an_existing_priority_class_keeps_its_name():
    model = view(priorityClassName="cluster-wide")
    assert pod_of(model.workload)["spec"]["priorityClassName"] == "cluster-wide"
    assert of_kind(model.objects, "PriorityClass") == []
    assert "priorityClassName" not in pod_of(view().workload)["spec"]


# Balloons.


def balloon(model: Model) -> dict:
    (found,) = [o for o in of_kind(model.objects, "Deployment") if o["metadata"]["name"] == f"{RELEASE}-m-balloon"]
    return found


@pytest.mark.parametrize("capacity", ["onDemand", "spot", "mixed"])
def test_a_balloon_takes_the_place_of_a_pod(capacity):
    """As large, on the same nodes (with a base, those of the pods that come and go), and gone at once."""
    model = view("aks", **{**MIXED, "capacity": capacity}, balloon={"replicas": 2})
    deployment = balloon(model)
    pod, served = pod_of(deployment)["spec"], pod_of(model.burst if capacity == "mixed" else model.workload)["spec"]
    assert deployment["spec"]["replicas"] == 2
    assert pod["containers"][0]["resources"] == served["containers"][0]["resources"]
    for key in ("nodeSelector", "tolerations", "affinity"):
        assert pod.get(key) == served.get(key), key
    assert pod["terminationGracePeriodSeconds"] == 0
    (made,) = of_kind(model.objects, "PriorityClass")
    assert pod["priorityClassName"] == made["metadata"]["name"]
    assert made["preemptionPolicy"] == "Never", "a balloon evicts nobody"
    # Below pods without a class; the Cluster Autoscaler adds nodes for -10 and more (its FAQ: expendable pods).
    assert -10 <= made["value"] < 0


def test_nothing_sends_requests_to_a_balloon_or_keeps_it():
    model = view(**MIXED, balloon={"replicas": 1}, networkPolicy={"enabled": True})
    labels = pod_of(balloon(model))["metadata"]["labels"]
    assert selects(balloon(model)["spec"]["selector"], labels)
    for kind in ("Service", "PodDisruptionBudget"):
        (obj,) = of_kind(model.objects, kind)
        assert not selects(obj["spec"]["selector"], labels), kind
    for deployment in (model.workload, model.burst):
        assert not selects(deployment["spec"]["selector"], labels)
    assert "prometheus.io/scrape" not in pod_of(balloon(model))["metadata"].get("annotations", {})


def test_a_balloons_class_can_be_ones_own():
    model = view(
        values={"priorityClasses": {"idle": {"value": -3}}}, balloon={"replicas": 1, "priorityClassName": "idle"}
    )
    assert pod_of(balloon(model))["spec"]["priorityClassName"] == f"{RELEASE}-{NAMESPACE}-idle--3"
    assert len(of_kind(model.objects, "PriorityClass")) == 1
    model = view(balloon={"replicas": 1, "priorityClassName": "theirs"})
    assert pod_of(balloon(model))["spec"]["priorityClassName"] == "theirs"
    assert of_kind(model.objects, "PriorityClass") == [], "no right to make one is needed"


def test_balloons_are_off():
    assert [o for o in view().objects if o["metadata"]["labels"]["app.kubernetes.io/component"] == "balloon"] == []


# What others wrote by hand.


def test_the_selector_and_toleration_of_a_published_guide():
    """An instance type of AWS with a taint of Azure: exactly this, and nothing the presets would add."""
    guide = {
        "nodeSelector": {"node.kubernetes.io/instance-type": "g4dn.xlarge", "nvidia.com/gpu.product": False},
        "tolerations": {
            "gpu": False,
            "spot": {
                "key": "kubernetes.azure.com/scalesetpriority",
                "operator": "Equal",
                "value": "spot",
                "effect": "NoSchedule",
            },
        },
    }
    pod = pod_of(view("generic", **guide).workload)["spec"]
    assert pod["nodeSelector"] == {"node.kubernetes.io/instance-type": "g4dn.xlarge"}
    assert pod["tolerations"] == [guide["tolerations"]["spot"]]
    assert "affinity" not in pod


def test_every_container_fits_a_resource_quota(case):
    """A namespace with a quota refuses pods that do not say what they take."""
    for where, pod in pod_templates(case.objects):
        for container in pod["spec"]["containers"]:
            for what in ("requests", "limits"):
                said = container["resources"][what].keys()
                assert {"cpu", "memory", "ephemeral-storage"} <= said, f"{where} {container['name']}"
