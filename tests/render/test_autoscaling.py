"""HorizontalPodAutoscaler, replicas, PodDisruptionBudget, and the rules behind the metric."""

from __future__ import annotations

from support.matrix import RUNTIMES
from support.objects import maybe
from support.render import RELEASE, load_yaml

from gpu_inference.paths import CHART, ROOT


def test_replicas_are_absent_iff_an_autoscaler_owns_them(models):
    for model in models:
        autoscaled = model.spec["autoscaling"]["enabled"]
        keda = model.spec["autoscaling"]["provider"] == "keda"
        assert (model.hpa is not None) == (autoscaled and not keda), model.name
        assert (maybe(model.objects, "ScaledObject", model.name) is not None) == (autoscaled and keda), model.name
        replicas = model.workload["spec"].get("replicas", "absent")
        assert replicas == ("absent" if autoscaled and not model.mixed else model.spec["replicas"]), model.name


def test_hpa_scales_the_workload(models):
    for model in models:
        if model.hpa and not model.mixed:  # see test_capacity
            spec, values = model.hpa["spec"], model.spec["autoscaling"]
            assert model.hpa["apiVersion"] == "autoscaling/v2"
            assert spec["scaleTargetRef"]["name"] == model.workload["metadata"]["name"]
            assert (spec["minReplicas"], spec["maxReplicas"]) == (values["minReplicas"], values["maxReplicas"])


def test_hpa_reads_requests_in_flight(models):
    """By default it is the only metric; with others it comes last."""
    for model in models:
        target = {key: value for key, value in model.spec["autoscaling"]["target"].items() if value is not False}
        if not model.hpa or model.mixed or "requestsInFlight" not in target:
            continue
        *others, metric = model.hpa["spec"]["metrics"]
        assert len(others) == len(target) - 1
        in_flight = model.runtime["metrics"]["inFlight"]
        labels = {"app_kubernetes_io_instance": RELEASE, "gpu_inference_io_model": model.name}
        for label, source in in_flight.get("selector", {}).items():
            assert source == "model.servedName", "teach this test the new source"
            labels[label] = model.spec["model"]["servedName"]
        assert metric["type"] == "External"
        assert metric["external"]["metric"] == {"name": in_flight["name"], "selector": {"matchLabels": labels}}
        wanted = {"type": "AverageValue", "averageValue": str(target["requestsInFlight"])}
        assert metric["external"]["target"] == wanted


def test_hpa_behaves_in_both_directions(models):
    for model in models:
        if model.hpa:
            assert model.hpa["spec"]["behavior"] == model.spec["autoscaling"]["behavior"], model.name
            assert set(model.hpa["spec"]["behavior"]) == {"scaleUp", "scaleDown"}


def test_the_metric_can_be_found(models):
    """The series the rule asks for carry the labels the HPA selects: they are labels of the pods."""
    for model in models:
        labels = model.pod["metadata"]["labels"]
        as_series = {key.replace(".", "_").replace("/", "_").replace("-", "_"): v for key, v in labels.items()}
        assert as_series["app_kubernetes_io_instance"] == RELEASE
        assert as_series["gpu_inference_io_model"] == model.name


def test_scrape_annotations_name_the_metrics_port(models):
    for model in models:
        monitoring = model.spec["monitoring"]
        if not monitoring["annotations"] or any(
            monitoring[kind]["enabled"] for kind in ("podMonitor", "serviceMonitor")
        ):
            continue
        annotations, metrics = model.pod["metadata"]["annotations"], model.runtime["metrics"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] == str(model.runtime["ports"][metrics["port"]])
        assert annotations["prometheus.io/path"] == metrics["path"]


def test_adapter_rules_match_the_presets():
    """ci/prometheus-adapter/values.yaml holds an external rule for each preset's metric."""
    rules = {r["name"]["as"]: r for r in load_yaml(ROOT / "ci/prometheus-adapter/values.yaml")["rules"]["external"]}
    wanted = {}
    for runtime in RUNTIMES:
        metric = load_yaml(CHART / "runtimes" / f"{runtime}.yaml").get("metrics", {}).get("inFlight")
        if metric:
            wanted[metric["name"]] = metric
    assert rules.keys() > wanted.keys()
    for name, metric in wanted.items():
        assert rules[name]["seriesQuery"].startswith(metric["series"])
        assert f"<<end>>{metric['query']}<<with " in rules[name]["metricsQuery"]  # see test_cluster_adapter
        assert "<<.LabelMatchers>>" in metric["query"]
        assert rules[name]["resources"]["overrides"]["namespace"] == {"resource": "namespace"}


def test_pdb_protects_and_never_blocks(models):
    """minAvailable blocks a drain as soon as it reaches the replicas; a fixed single replica gets no budget."""
    for model in models:
        values = model.spec
        single = not values["autoscaling"]["enabled"] and values["replicas"] <= 1
        assert (model.pdb is not None) == (values["pdb"]["enabled"] and not single), model.name
        if model.pdb:
            assert "minAvailable" not in model.pdb["spec"]
            assert model.pdb["spec"]["maxUnavailable"] == values["pdb"]["maxUnavailable"]
            assert model.pdb["spec"]["maxUnavailable"] not in (0, "0%"), "blocks every drain"
            assert model.pdb["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
