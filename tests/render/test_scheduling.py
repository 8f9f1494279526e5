"""Which nodes a pod may land on: expected from the cloud and accelerator data."""

from __future__ import annotations

from support.expected import kept


def test_node_selector(models):
    for model in models:
        wanted = kept(model.spec["nodeSelector"])
        if _prefers_spot(model):
            wanted = {k: v for k, v in wanted.items() if k not in model.spec["_cloud"]["spot"]["nodeSelector"]}
        assert model.pod["spec"].get("nodeSelector", {}) == wanted, model.name


def _prefers_spot(model) -> bool:
    """See test_capacity."""
    return model.spec["capacity"] == "spot" and model.spec["spot"]["fallback"]


def test_a_gpu_product_is_always_selected(models):
    """A pod that asks for `nvidia.com/gpu` alone may land on any GPU of the cluster."""
    for model in models:
        accelerator, cloud, gpu = model.spec["_accelerator"], model.spec["_cloud"], model.spec["accelerator"]
        if gpu["dra"] or gpu["sharing"] != "none":  # test_sharing.py
            continue
        label = cloud["productLabels"][accelerator["resource"]]
        if model.spec["nodeSelector"][label] is not False:
            assert model.pod["spec"]["nodeSelector"][label] == accelerator["nodeLabels"][label]


def test_tolerations(models):
    for model in models:
        wanted = list(kept(model.spec["tolerations"]).values())
        got = model.pod["spec"].get("tolerations", [])
        assert sorted(map(str, map(_sorted, got))) == sorted(map(str, map(_sorted, wanted))), model.name


def _sorted(toleration: dict) -> list:
    return sorted(toleration.items())


def _forbidden(pod: dict) -> set[str]:
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    found = [{e["key"] for e in t["matchExpressions"] if e["operator"] == "DoesNotExist"} for t in terms]
    return set.intersection(*found) if found else set()


def test_labels_a_node_must_not_have(models):
    for model in models:
        assert _forbidden(model.pod) == set(kept(model.spec["absentNodeLabels"])), model.name


def test_on_demand_stays_off_spot_nodes(models):
    """By selecting on-demand nodes, by refusing spot ones, or because of the spot nodes' taint."""
    for model in models:
        spot = model.spec["_cloud"].get("spot")
        if not spot or model.spec["capacity"] == "spot":
            continue
        pod = model.pod["spec"]
        kept_off = any(pod.get("nodeSelector", {}).get(k, v) != v for k, v in spot["nodeSelector"].items())
        refused = bool(_forbidden(model.pod) & set(spot["nodeSelector"]))
        tolerated = {t["key"] for t in pod.get("tolerations", [])}
        tainted = any(t["key"] not in tolerated for t in spot["tolerations"].values())
        assert kept_off or refused or tainted, model.name


def test_spot_lands_on_spot_nodes(models):
    for model in models:
        if model.spec["capacity"] != "spot" or _prefers_spot(model):
            continue
        spot = model.spec["_cloud"]["spot"]
        assert spot["nodeSelector"], "a spot preset that selects nothing"
        assert spot["nodeSelector"].items() <= model.pod["spec"]["nodeSelector"].items()
        for toleration in spot["tolerations"].values():
            assert toleration in model.pod["spec"]["tolerations"]


def test_a_spot_pod_ends_within_the_notice(models):
    for model in models:
        if model.spec["capacity"] in ("spot", "mixed"):
            grace = model.pod["spec"]["terminationGracePeriodSeconds"]
            assert grace <= model.spec["_cloud"]["spot"]["podGraceSeconds"], model.name
