"""What charts of this kind were seen to do, and this one must never do: each test is named after the behaviour.

Some are held by other tests as well; here they stand as a list, each provoked the way it was found.
"""

from __future__ import annotations

import copy
import re
import tarfile
from typing import Any

import pytest
from support.api_schemas import VERSIONS, known
from support.expected import over
from support.invariants import INVARIANTS
from support.matrix import CLOUDS, RUNTIMES, cases, minimal_model, preset
from support.objects import maybe, name, of_kind, one, pod_templates, selects, server
from support.render import helm, load_yaml, render, render_error, scratch_dir
from support.switches import combined

from gpu_inference.cluster.crds import definitions
from gpu_inference.paths import CHART, ROOT

TOOLS = ROOT / "tools" / "gpu_inference"

# The kinds the chart can render that are not Kubernetes' own.
CUSTOM_GROUPS = {definition["spec"]["group"] for definition in definitions()}
# One runtime for each set of sources that a runtime may know.
LOADERS = {tuple(preset("runtimes", runtime)["modelSources"]): runtime for runtime in RUNTIMES}.values()


def values(runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model(runtime, "nvidia-l4"), changes)}}


def holds(invariant: str, objects: list[dict[str, Any]]) -> None:
    assert objects
    assert list(INVARIANTS[invariant](objects)) == []


# The schema.


def test_a_package_never_leaves_its_schema_behind(major):
    """One line of .helmignore is enough, and then every value passes."""
    archive = helm(major).package(CHART, scratch_dir(f"never-{major}"))
    with tarfile.open(archive) as tar:
        assert "gpu-inference/values.schema.json" in tar.getnames()
    assert "replicas" in render_error(values(replicas="many"), major=major, chart=archive)


@pytest.mark.parametrize(
    "typo",
    [
        {"replcas": 2},
        {"parallelism": {"tensorParallelSize": 2}},
        {"autoscaling": {"enabeld": True}},
        {"pod": 1},
        {"service": {"prot": 80}},
    ],
    ids=lambda typo: next(iter(typo)),
)
def test_a_mistyped_key_never_passes_in_silence(major, typo):
    render_error(values(**typo), major=major)
    render_error({"modelDefaults": typo}, major=major)


@pytest.mark.parametrize("count", ["abc", "2", 1.5, 0, -1])
def test_a_number_of_gpus_is_never_anything_but_a_number(major, count):
    assert "count" in render_error(values(accelerator={"count": count}), major=major)


# Autoscaling.


@pytest.mark.parametrize("cloud", CLOUDS)
def test_replicas_are_never_rendered_beside_an_autoscaler(cloud):
    holds("autoscalers_own_the_replicas", combined(cloud).objects)


@pytest.mark.parametrize("scaling", [{"enabled": False}, {"enabled": False, "minReplicas": 2, "maxReplicas": 9}, {}])
def test_replicas_never_vanish_without_an_autoscaler(major, scaling):
    """The presence of a key is not its value."""
    objects = render(values(replicas=3, autoscaling=scaling), major=major)
    assert one(objects, "Deployment", "m")["spec"]["replicas"] == 3
    assert of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject") == []


@pytest.mark.parametrize("release", ["llm", "vllm", "a-rather-long-name-of-a-release"])
def test_an_autoscaler_never_targets_what_no_release_renders(release):
    objects = render(values(autoscaling={"enabled": True}), release=release)
    holds("autoscalers_own_the_replicas", objects)
    target = one(objects, "HorizontalPodAutoscaler", "m")["spec"]["scaleTargetRef"]
    assert target["name"] == f"{release}-m"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_autoscaler_never_waits_for_a_series_that_nobody_exports(runtime):
    """A label that the server does not write selects nothing: the autoscaler stands still and passes every check."""
    metrics = preset("runtimes", runtime)["metrics"]
    if "inFlight" not in metrics:
        assert "in flight" in render_error(values(runtime, autoscaling={"enabled": True}))
        return
    objects = render(values(runtime, autoscaling={"enabled": True}))
    metric = one(objects, "HorizontalPodAutoscaler", "m")["spec"]["metrics"][0]["external"]["metric"]
    rules = load_yaml(ROOT / "ci/prometheus-adapter/values.yaml")["rules"]["external"]
    (rule,) = [rule for rule in rules if rule["name"]["as"] == metric["name"]]
    contract = load_yaml(TOOLS / "twin" / "contracts" / f"{runtime}.yaml")  # what the server exports, family by family
    exported = {f"{f['name']}{part}" for f in contract["families"] for part in ("", "_sum", "_count", "_bucket")}
    written = set(metrics.get("labels", {}).values()) | set(metrics["inFlight"].get("labels", []))
    pod = one(objects, "Deployment", "m")["spec"]["template"]["metadata"]["labels"]
    scraped = {re.sub(r"[./-]", "_", label): value for label, value in pod.items()}
    asked = set(re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?=\{)", rule["metricsQuery"]))
    assert asked and asked <= exported, "a series of this server"
    for label, value in metric["selector"]["matchLabels"].items():
        assert scraped.get(label) == value or label in written or label in metrics["inFlight"].get("selector", {}), (
            label
        )
    assert rule["resources"]["overrides"]["namespace"] == {"resource": "namespace"}, "of its own namespace only"


def test_an_autoscaler_is_never_left_without_its_workload(major):
    """Whatever the kind of workload: the autoscaler follows it."""
    for kind, more in {"Deployment": {}, "StatefulSet": {"rollout": {"spareGPU": False}}}.items():
        objects = render(values(workload=kind, autoscaling={"enabled": True}, **more), major=major)
        assert one(objects, "HorizontalPodAutoscaler", "m")["spec"]["scaleTargetRef"]["kind"] == kind
        holds("autoscalers_own_the_replicas", objects)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_api_that_kubernetes_removed_is_never_rendered(version):
    for case in [*cases(), *map(combined, CLOUDS)]:
        for obj in case.objects:
            if obj["kind"] == "ResourceClaimTemplate" and version == "1.33":
                continue  # the chart refuses to make one there
            custom = obj["apiVersion"].split("/")[0] in CUSTOM_GROUPS
            assert custom or known(obj, version), f"{case}: {name(obj)}: {obj['apiVersion']}"


# Disruption.


def test_no_disruption_at_all_never_becomes_any_disruption(major):
    """0 is a number, not nothing."""
    try:
        objects = render(values(replicas=3, pdb={"maxUnavailable": 0}), major=major)
    except Exception as refused:
        assert "maxUnavailable" in str(refused)
    else:
        spec = one(objects, "PodDisruptionBudget", "m")["spec"]
        assert spec["maxUnavailable"] == 0 and "minAvailable" not in spec


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_disruption_budget_is_never_without_pods(cloud):
    holds("budgets_protect_and_never_block", combined(cloud).objects)


def test_two_releases_never_select_each_others_pods():
    mine, theirs = (render(values(replicas=2), release=release) for release in ("one", "two"))
    for release, others in ((mine, theirs), (theirs, mine)):
        for obj in of_kind(release, "Service", "PodDisruptionBudget", "Deployment", "NetworkPolicy"):
            for _, pod in pod_templates(others):
                assert not selects(obj["spec"]["selector"], pod["metadata"]["labels"]), name(obj)


def test_a_rollout_never_needs_twice_the_gpus(major):
    """Kubernetes rounds 25 % of one pod up to a whole one; some charts ask for all of them at once."""
    for replicas in (1, 2, 8):
        rolling = one(render(values(replicas=replicas), major=major), "Deployment", "m")["spec"]["strategy"]
        assert rolling["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


# Volumes.


@pytest.mark.parametrize("claims", [1, 2])
def test_a_shared_claim_alone_never_breaks_the_manifest(major, claims):
    """A list whose header another value renders."""
    own = {f"c{n}": {"mountPath": f"/c{n}", "size": "1Gi", "accessModes": ["ReadWriteMany"]} for n in range(claims)}
    nothing_else = {"writable": {"tmp": False}}
    objects = render(values(replicas=2, claims=own, **nothing_else), major=major)
    holds("mounts_have_volumes_and_volumes_are_mounted", objects)
    paths = {m["mountPath"] for m in server(one(objects, "Deployment", "m"))["volumeMounts"]}
    assert {f"/c{n}" for n in range(claims)} <= paths


@pytest.mark.parametrize("scheme", ["hf", "pvc", "image", "s3", "gs", "az", "oci", "hostpath", "ftp", ""])
@pytest.mark.parametrize("runtime", LOADERS)
def test_a_model_source_never_mounts_a_volume_that_is_not_there(runtime, scheme):
    """Either the chart knows how to bring the model, or it says that it does not."""
    source = f"{scheme}://" if scheme == "image" else f"{scheme}://bucket/model"
    try:
        objects = render(values(runtime, model={"source": source}))
    except Exception as refused:
        assert "source" in str(refused)
    else:
        holds("mounts_have_volumes_and_volumes_are_mounted", objects)


# GPUs.


@pytest.mark.parametrize("typo", ["nvdia-l4", "nvidia-l40", "nvidia", "l4", ""])
def test_a_mistyped_accelerator_never_gives_a_pod_without_gpus(major, typo):
    message = render_error(values(accelerator={"type": typo}), major=major)
    assert "accelerator" in message and "nvidia-l4" in message, "the known ones are named"


@pytest.mark.parametrize(("count", "tensor"), [(1, 3), (4, 3), (2, 1), (8, 16)])
def test_parallelism_never_contradicts_the_gpus(major, count, tensor):
    error = render_error(values(accelerator={"count": count}, parallelism={"tensor": tensor}), major=major)
    assert "models.m.parallelism" in error


def test_a_group_never_has_other_gpus_than_its_share_of_the_model(major):
    group = {"workload": "LeaderWorkerSet", "accelerator": {"count": 8}, "parallelism": {"tensor": 4, "pipeline": 2}}
    assert "models.m.parallelism.tensor" in render_error(values(**group), major=major)
    group["parallelism"]["tensor"] = 8
    spec = one(render(values(**group), major=major), "LeaderWorkerSet", "m")["spec"]["leaderWorkerTemplate"]
    assert spec["size"] == 2
    for role in ("leader", "worker"):
        (container,) = spec[f"{role}Template"]["spec"]["containers"]
        assert str(container["resources"]["limits"]["nvidia.com/gpu"]) == "8"


# Probes.


@pytest.mark.parametrize("load", [30, 300, 3600])
def test_liveness_never_kills_a_server_that_still_loads(load):
    objects = render(values(startup={"loadSeconds": load}))
    holds("loading_is_never_killed", objects)
    without = copy.deepcopy(objects)
    del server(one(without, "Deployment", "m"))["startupProbe"]
    assert list(INVARIANTS["loading_is_never_killed"](without))


def test_what_is_switched_on_never_renders_nothing():
    """Values that no template reads."""
    on = {
        "ingress": ("Ingress", {"ingress": {"enabled": True, "host": "a.example.com"}}),
        "gateway": ("HTTPRoute", {"gateway": {"enabled": True, "parentRefs": [{"name": "g"}]}}),
        "policy": ("NetworkPolicy", {"networkPolicy": {"enabled": True}}),
        "monitor": ("PodMonitor", {"monitoring": {"podMonitor": {"enabled": True}}}),
        "scaling": ("HorizontalPodAutoscaler", {"autoscaling": {"enabled": True}}),
    }
    for kind, said in on.values():
        assert maybe(render(values(**said)), kind, "m"), kind
        assert maybe(render(values()), kind, "m") is None, kind
