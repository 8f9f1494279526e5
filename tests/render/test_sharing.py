"""Parts of GPUs, GPUs of several vendors, and GPUs by claim: what a pod asks for, and on which nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.expected import over
from support.matrix import minimal_model, scenario
from support.objects import of_kind, one
from support.render import helm, load_yaml, render
from support.sharing_problems import SLICE, TURNS

from gpu_inference import sharing
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART, VALUES

PRODUCT = "nvidia.com/gpu.product"
# Model of values/sharing.yaml -> what each of its pods asks for, and the labels of its nodes.
PLACES: dict[str, tuple[str, int, dict[str, str]]] = {
    "chat-small": (
        "nvidia.com/mig-1g.10gb",
        1,
        {
            "nvidia.com/mig.strategy": "mixed",
            "nvidia.com/mig-1g.10gb.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
        },
    ),
    "classify": (
        "nvidia.com/gpu",
        1,
        {"nvidia.com/mig.strategy": "single", PRODUCT: "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb"},
    ),
    "embed": (
        "nvidia.com/gpu",
        1,
        {
            PRODUCT: "NVIDIA-L4-SHARED",
            "nvidia.com/gpu.sharing-strategy": "time-slicing",
            "nvidia.com/gpu.replicas": "4",
        },
    ),
    "rerank": (
        "nvidia.com/gpu.shared",
        1,
        {PRODUCT: "Tesla-T4", "nvidia.com/gpu.sharing-strategy": "mps", "nvidia.com/gpu.replicas": "2"},
    ),
    "large": ("amd.com/gpu", 2, {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}),
}


def pod_of(objects: list[dict[str, Any]], model: str = "m") -> dict[str, Any]:
    return one(objects, "Deployment", model)["spec"]["template"]["spec"]


def m(gpu: str, accelerator: dict[str, Any], runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model(runtime, gpu), {"accelerator": accelerator, **changes})}}


def gpus_of(resources: dict[str, Any]) -> dict[str, Any]:
    return {name: number for name, number in resources.items() if "/" in name}


def test_the_scenario_has_every_way_of_sharing():
    models = load_yaml(VALUES / "sharing.yaml")["models"]
    assert models.keys() == PLACES.keys()
    assert {model["accelerator"].get("sharing", "none") for model in models.values()} == {
        "none",
        "mig",
        "timeSlicing",
        "mps",
    }


@pytest.mark.parametrize("model", PLACES)
def test_a_pod_asks_for_its_part_on_the_right_nodes(model):
    resource, number, labels = PLACES[model]
    pod = pod_of(scenario("sharing").objects, model)
    resources = pod["containers"][0]["resources"]
    assert gpus_of(resources["requests"]) == gpus_of(resources["limits"]) == {resource: number}
    assert pod["nodeSelector"] == labels


def test_gke_marks_shared_gpus_its_own_way():
    common = {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    single = {"sharing": "mig", "mig": {"profile": "1g.10gb", "strategy": "single"}}
    for accelerator, labels in (
        (single, {"cloud.google.com/gke-gpu-partition-size": "1g.10gb"}),
        (
            TURNS,
            {
                "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
                "cloud.google.com/gke-max-shared-clients-per-gpu": "4",
            },
        ),
    ):
        pod = pod_of(render({"cloud": "gke", **m("nvidia-h100", accelerator)}))
        assert pod["nodeSelector"] == {**common, **labels}
        assert gpus_of(pod["containers"][0]["resources"]["limits"]) == {"nvidia.com/gpu": 1}


def test_labels_of_the_users_own_win():
    own = {"nvidia.com/gpu.replicas": "8", "nvidia.com/gpu.sharing-strategy": False, PRODUCT: "ANY-SHARED"}
    pod = pod_of(render(m("nvidia-l4", TURNS, nodeSelector=own)))
    assert pod["nodeSelector"] == {"nvidia.com/gpu.replicas": "8", PRODUCT: "ANY-SHARED"}


def test_tpu_topology_follows_from_the_number_of_chips():
    for count, topology in ((1, "1x1"), (4, "2x2"), (8, "2x4")):
        values = m("google-tpu-v6e", {"count": count}, parallelism={"tensor": count}, image={"repository": "own/tpu"})
        pod = pod_of(render({"cloud": "gke", **values}))
        assert pod["nodeSelector"] == {
            "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
            "cloud.google.com/gke-tpu-topology": topology,
        }
        assert gpus_of(pod["containers"][0]["resources"]["limits"]) == {"google.com/tpu": count}


# Vendors.


def image_of(values: dict[str, Any]) -> str:
    return str(pod_of(render(values))["containers"][0]["image"])


def test_a_preset_has_an_image_for_each_vendor_it_names():
    tag = load_yaml(CHART / "runtimes/vllm.yaml")["defaults"]["image"]["tag"]
    assert image_of(m("nvidia-l4", {})) == f"vllm/vllm-openai:{tag}"
    assert image_of(m("amd-mi300x", {})) == f"vllm/vllm-openai-rocm:{tag}"
    assert image_of(m("amd-mi300x", {}, "tgi")).endswith("-rocm")


def test_an_image_of_ones_own_is_ones_own_business():
    assert image_of(m("amd-mi300x", {}, image={"repository": "own/vllm", "tag": "1"})) == "own/vllm:1"
    mine = {"runtimes": {"sglang": {"images": {"amd.com": {"repository": "own/sglang", "tag": "2"}}}}}
    values = m("amd-mi300x", {}, "sglang")
    del values["models"]["m"]["image"]
    assert image_of({**mine, **values}) == "own/sglang:2"


# Claims.


def claimed(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the claim's template, the pod's spec) of the model m."""
    objects = render(values)
    (template,) = of_kind(objects, "ResourceClaimTemplate")
    return template, pod_of(objects)


def test_a_claim_asks_for_as_many_gpus_as_the_device_plugin_would_be():
    for count in (1, 2):
        template, pod = claimed(m("nvidia-h100", {"count": count, "dra": True}, parallelism={"tensor": count}))
        assert template["apiVersion"] == "resource.k8s.io/v1"
        (request,) = template["spec"]["spec"]["devices"]["requests"]
        assert (request["exactly"]["deviceClassName"], request["exactly"]["count"]) == ("gpu.nvidia.com", count)
        (selector,) = request["exactly"]["selectors"]
        assert '"NVIDIA H100 80GB HBM3"' in selector["cel"]["expression"]
        (claim,) = pod["resourceClaims"]
        assert claim["resourceClaimTemplateName"] == template["metadata"]["name"]
        resources = pod["containers"][0]["resources"]
        assert resources["claims"] == [{"name": claim["name"]}]
        assert gpus_of(resources["requests"]) == gpus_of(resources["limits"]) == {}, "asked for twice"
        assert "nodeSelector" not in pod


def test_a_slice_is_claimed_by_its_profile():
    template, _ = claimed(m("nvidia-h100", {**SLICE, "dra": True}))
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "mig.nvidia.com"
    expressions = [selector["cel"]["expression"] for selector in request["exactly"]["selectors"]]
    assert expressions[1] == 'device.attributes["gpu.nvidia.com"].profile == "1g.10gb"'
    assert "NVIDIA H100" in expressions[0]


def test_a_template_of_claims_is_never_changed():
    """Its spec is immutable: another request is another object, and the same request the same one."""
    names = [
        claimed(m("nvidia-h100", {"count": count, "dra": True}, parallelism={"tensor": count}, replicas=replicas))[0][
            "metadata"
        ]["name"]
        for count, replicas in ((1, 1), (1, 3), (2, 1))
    ]
    assert names[0] == names[1] != names[2]


def test_a_claim_needs_an_api_that_serves_it(major):
    with pytest.raises(UserError, match=r"Kubernetes v1\.33\.0 does not serve resource\.k8s\.io/v1.*upgrade to 1\.34"):
        helm(major).template("llm", CHART, [VALUES / "dra.yaml"], kube_version="1.33.0")
    assert helm(major).template("llm", CHART, [VALUES / "dra.yaml"], kube_version="1.34.0")


def test_groups_of_pods_stay_within_a_topology():
    group = {"workload": "LeaderWorkerSet", "parallelism": {"pipeline": 2}}
    (plain,) = of_kind(render(m("nvidia-h100", {}, **group)), "LeaderWorkerSet")
    assert "annotations" not in plain["metadata"]
    group["parallelism"]["topologyKey"] = "nvidia.com/gpu.clique"
    (together,) = of_kind(render(m("nvidia-h100", {}, **group)), "LeaderWorkerSet")
    assert together["metadata"]["annotations"] == {
        "leaderworkerset.sigs.k8s.io/exclusive-topology": "nvidia.com/gpu.clique"
    }


# Sizes.


def sizes(values: dict[str, Any]) -> tuple[str, str, str]:
    """(memory requested, memory limit, disk for the weights) of the model m, with /dev/shm of 2 GiB."""
    pod = pod_of(render(values))
    resources = pod["containers"][0]["resources"]
    disk = next(v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "cache")
    return resources["requests"]["memory"], resources["limits"]["memory"], disk


def test_memory_and_disk_follow_from_the_model():
    """70.6 billion weights of two bytes are 141.2 GB: 211.8 with half of it more, 53 for each of four GPUs."""
    large = {"source": "hf://o/n", "parametersBillion": 70.6, "weightsDtype": "bf16"}
    four = {"count": 4}, {"tensor": 4}
    assert sizes(m("nvidia-h100", four[0], parallelism=four[1], model=large)) == ("246Gi", "310Gi", "212Gi")
    eight_bit = {**large, "weightsDtype": "FP8"}
    assert sizes(m("nvidia-h100", four[0], parallelism=four[1], model=eight_bit)) == ("142Gi", "178Gi", "108Gi")


def test_sizes_that_are_said_stay():
    model = {"source": "hf://o/n", "parametersBillion": 8, "weightsDtype": "fp8"}
    own = {"resources": {"memory": {"requests": "30Gi", "limits": "31Gi"}}, "storage": {"cache": {"sizeLimit": "77Gi"}}}
    said = m("nvidia-l4", {}, model=model, **own)
    assert sizes(said) == ("32Gi", "33Gi", "77Gi")
    preset = {"accelerators": {"nvidia-l4": {"defaults": own}}, **m("nvidia-l4", {}, model=model)}
    assert sizes(preset) == ("32Gi", "33Gi", "77Gi")
    assert sizes(m("nvidia-l4", {}, model={**model, "weightsDtype": "q5_k_m"})) == (
        *(f"{int(load_yaml(CHART / 'accelerators/nvidia-l4.yaml')['defaults']['resources']['memory'][what][:-2]) + 2}Gi"
          for what in ("requests", "limits")),
        "23Gi",
    )  # fmt: skip


@pytest.mark.parametrize("dtype", sharing.BITS)
def test_every_format_weighs_the_same_to_helm_and_python(dtype):
    values = m("nvidia-h100", {"count": 8}, parallelism={"tensor": 8}, model={"weightsDtype": dtype})
    values["models"]["m"]["model"]["parametersBillion"] = 123.4
    objects = render({"debug": {"resolvedSpecs": True}, **values})
    (debug,) = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"].endswith("-resolved")]
    spec = json.loads(debug["data"]["m"])
    wanted = -(-123.4 * float(sharing.BITS[dtype]) / 8 * 1.5 // 8)
    assert spec["storage"]["cache"]["sizeLimit"] == f"{int(wanted)}Gi"


def test_presets_give_gpus_cpus_and_limits_a_quarter_above():
    """Four to eight CPUs a GPU, limits 20 to 30 % above steady state."""
    for file in (CHART / "accelerators").glob("*.yaml"):
        resources = load_yaml(file)["defaults"]["resources"]
        assert 4 <= resources["cpu"]["requests"] <= 8, file.stem
        assert resources["cpu"]["limits"] / resources["cpu"]["requests"] == pytest.approx(1.25, abs=0.05), file.stem
