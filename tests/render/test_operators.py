"""Models whose pods an operator makes: what it is told, and what the chart leaves to it."""

from __future__ import annotations

from typing import Any

import yaml
from support.expected import over
from support.matrix import scenario
from support.objects import model_of, of_kind, one
from support.operator_problems import NIM, RAY
from support.render import render

SCENARIO = scenario("operators")


def rendered(model: dict[str, Any], major: int = 4, **changes: Any) -> list[dict[str, Any]]:
    return render({"models": {"m": over(model, changes)}}, major=major)


def kinds(objects: list[dict[str, Any]], model: str) -> set[str]:
    return {o["kind"] for o in objects if model_of(o) == model}


def nim(major: int = 4, **changes: Any) -> dict[str, Any]:
    return one(rendered(NIM, major, **changes), "NIMService", "m")["spec"]


def ray(major: int = 4, **changes: Any) -> dict[str, Any]:
    return one(rendered(RAY, major, **changes), "RayService", "m")["spec"]


def application(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    return found


def test_the_operators_make_the_rest():
    """No Deployment, Service, autoscaler or claim of the chart's beside those the operators make."""
    assert kinds(SCENARIO.objects, "assistant") == {"NIMService", "NIMCache", "PodDisruptionBudget"}
    assert kinds(SCENARIO.objects, "recommender") == {"RayService", "ServiceAccount", "PodDisruptionBudget"}
    assert {"Deployment", "Service"} <= kinds(SCENARIO.objects, "embeddings")


# NIM operator


def test_replicas_and_autoscaling_of_a_nim():
    """1 to 10 pods by CPU 70 % and memory 80 %; the operator refuses `replicas` beside it."""
    spec = one(SCENARIO.objects, "NIMService", "assistant")["spec"]
    assert spec["scale"]["enabled"] is True and "replicas" not in spec
    hpa = spec["scale"]["hpa"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (1, 10)
    targets = {m["resource"]["name"]: m["resource"]["target"] for m in hpa["metrics"]}
    assert targets == {
        "cpu": {"type": "Utilization", "averageUtilization": 70},
        "memory": {"type": "Utilization", "averageUtilization": 80},
    }
    assert set(hpa["behavior"]) == {"scaleUp", "scaleDown"}
    assert nim(replicas=2)["replicas"] == 2 and "scale" not in nim(replicas=2)


def test_metrics_of_a_nim():
    spec = one(SCENARIO.objects, "NIMService", "assistant")["spec"]
    assert spec["expose"]["service"] == {"type": "ClusterIP", "port": 8000, "metricsPort": 8002}
    assert spec["metrics"]["serviceMonitor"]["additionalLabels"] == {"release": "kube-prometheus-stack"}
    assert "metricsPort" not in nim()["expose"]["service"] and "metrics" not in nim()
    assert nim()["annotations"]["prometheus.io/port"] == "8000", "the operator passes annotations to the pods"


def test_the_pods_of_a_nim_are_found_by_the_chart_s_labels():
    """The budget, the autoscaler's metrics and the operator's pods go by the same."""
    spec = one(SCENARIO.objects, "NIMService", "assistant")["spec"]
    budget = one(SCENARIO.objects, "PodDisruptionBudget", "assistant")["spec"]
    assert budget["selector"]["matchLabels"].items() <= spec["labels"].items()
    assert spec["labels"]["gpu-inference.io/model"] == "assistant"


def test_a_nim_loads_from_its_cache():
    cache, spec = (
        one(SCENARIO.objects, "NIMCache", "assistant"),
        one(SCENARIO.objects, "NIMService", "assistant")["spec"],
    )
    assert spec["storage"]["nimCache"]["name"] == cache["metadata"]["name"]
    assert cache["spec"]["storage"]["pvc"] == {"create": True, "size": "50Gi", "volumeAccessMode": "ReadWriteMany"}
    image = f"{spec['image']['repository']}:{spec['image']['tag']}"
    assert cache["spec"]["source"]["ngc"] == {
        "modelPuller": image,
        "authSecret": spec["authSecret"],
        "pullSecret": "ngc-registry",
    }
    assert not {"NIM_CACHE_PATH", "NIM_SERVER_PORT"} & {e["name"] for e in spec["env"]}, "the operator's own"
    assert cache["spec"]["nodeSelector"] == spec["nodeSelector"]
    assert cache["spec"]["tolerations"] == spec["tolerations"]


def test_another_image_is_another_cache(major):
    """The operator refuses to change a cache's image: an upgrade of the same name would fail."""
    names = {
        one(rendered(NIM, major, image={"tag": tag}), "NIMCache", "m")["metadata"]["name"]
        for tag in ("2.0.12", "2.1.4")
    }
    assert len(names) == 2
    assert {name.rsplit("-", 1)[0] for name in names} == {"llm-m"}


def test_pods_of_a_nim(major):
    spec = nim(major, accelerator={"count": 2}, parallelism={"tensor": 2}, startup={"loadSeconds": 500})
    limits, requests = spec["resources"]["limits"], spec["resources"]["requests"]
    assert limits["nvidia.com/gpu"] == requests["nvidia.com/gpu"] == 2
    assert {e["name"]: e["value"] for e in spec["env"]}["NIM_TENSOR_PARALLEL_SIZE"] == "2"
    startup = spec["startupProbe"]["probe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 1000
    assert {spec[f"{name}Probe"]["probe"]["httpGet"]["port"] for name in ("startup", "readiness", "liveness")} == {8000}
    assert (spec["userID"], spec["groupID"]) == (1000, 1000)


# KubeRay


def test_the_application_gets_the_model_s_numbers(major):
    fixed = application(ray(major, replicas=3, accelerator={"count": 2}, drain={"requestSeconds": 45}))
    (deployment,) = fixed["deployments"]
    assert (fixed["import_path"], fixed["route_prefix"]) == ("server:app", "/")
    assert deployment["name"] == "Model"
    assert (deployment["num_replicas"], deployment["ray_actor_options"]) == (3, {"num_gpus": 2})
    assert deployment["graceful_shutdown_timeout_s"] == 45


def test_ray_scales_by_requests_in_flight():
    spec = one(SCENARIO.objects, "RayService", "recommender")["spec"]
    (deployment,) = application(spec)["deployments"]
    scaling = deployment["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    assert scaling["target_ongoing_requests"] == 8
    assert (scaling["upscale_delay_s"], scaling["downscale_delay_s"]) == (60, 300)
    assert "num_replicas" not in deployment
    cluster = spec["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 4)


def test_a_worker_for_each_replica_without_autoscaling(major):
    cluster = ray(major, replicas=3)["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    assert {group[key] for key in ("replicas", "minReplicas", "maxReplicas")} == {3}
    assert "enableInTreeAutoscaling" not in cluster and "autoscalerOptions" not in cluster


def test_the_head_has_no_gpu_and_no_work(major):
    cluster = ray(major)["rayClusterConfig"]
    head = cluster["headGroupSpec"]
    assert (head["rayStartParams"]["num-gpus"], head["rayStartParams"]["num-cpus"]) == ("0", "0")
    pod = head["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert not {"nodeSelector", "tolerations"} & pod.keys(), "any node will do"
    budget = one(rendered(RAY, major, replicas=2), "PodDisruptionBudget", "m")["spec"]["selector"]["matchLabels"]
    assert not budget.items() <= head["template"]["metadata"]["labels"].items(), "one pod blocks no drain"


def test_the_head_may_scale_only_if_it_has_to(major):
    """KubeRay makes an account for a head that changes the number of workers."""
    fixed = ray(major)["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    scaled = ray(major, autoscaling={"enabled": True})["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert fixed["automountServiceAccountToken"] is False
    assert not {"serviceAccountName", "automountServiceAccountToken"} & scaled.keys()


def test_the_worker_is_the_model_s_pod_without_what_kuberay_sets(major):
    (group,) = ray(major)["rayClusterConfig"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    (server,) = pod["containers"]
    assert not {"command", "args", "startupProbe", "readinessProbe", "livenessProbe"} & server.keys()
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"] and pod["tolerations"]
    assert pod["automountServiceAccountToken"] is False
    wait = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait == 15 + 60 < pod["terminationGracePeriodSeconds"], "requests in flight finish first"
    assert group["template"]["metadata"]["annotations"]["prometheus.io/port"] == "8080"


def test_an_update_without_spare_gpus_changes_no_running_cluster(major):
    assert ray(major)["upgradeStrategy"] == {"type": "NewCluster"}
    assert ray(major, rollout={"spareGPU": False})["upgradeStrategy"] == {"type": "None"}


def test_ray_s_object_store_fits_into_shared_memory(major):
    cluster = ray(major, shm={"sizeLimit": "3Gi"})["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert 2 * 1024**3 < int(group["rayStartParams"]["object-store-memory"]) < 3 * 1024**3
        (shm,) = [v for v in group["template"]["spec"]["volumes"] if v["name"] == "shm"]
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}


def test_ray_is_of_the_image_s_version(major):
    assert ray(major, runtimeVersion="2.61.0")["rayClusterConfig"]["rayVersion"] == "2.61.0"


def test_nothing_beside_an_operator_s_autoscaler(major):
    targets = [(NIM, {"requestsInFlight": False, "cpuUtilization": 70}), (RAY, {"requestsInFlight": 4})]
    for model, target in targets:
        scaled = rendered(model, major, autoscaling={"enabled": True, "target": target})
        assert of_kind(scaled, "HorizontalPodAutoscaler", "ScaledObject") == []
