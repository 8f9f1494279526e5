"""Services reach the pods, on the ports the values promise."""

from __future__ import annotations


def test_service_ports_exist_on_the_pods(models):
    for model in models:
        names = {p["name"]: p["containerPort"] for p in model.server["ports"]}
        assert names == model.runtime["ports"], model.name
        assert {p["targetPort"] for p in model.service["spec"]["ports"]} <= set(names), model.name


def test_service_ports_are_the_values(models):
    for model in models:
        values = model.spec["service"]
        ports = {p["targetPort"]: p["port"] for p in model.service["spec"]["ports"]}
        # Metrics are for the cluster only.
        hidden = {"http"} if values["type"] == "ClusterIP" else {"http", model.runtime["metrics"]["port"]}
        others = {k: v for k, v in model.runtime["ports"].items() if k not in hidden}
        assert ports == {"http": values["port"], **others}
        assert model.service["spec"]["type"] == values["type"]
        assert model.service["metadata"].get("annotations", {}) == values["annotations"]


def test_probed_and_scraped_ports_are_declared(models):
    for model in models:
        ports = {p["name"] for p in model.server["ports"]}
        probes = [model.server[k] for k in ("startupProbe", "readinessProbe", "livenessProbe")]
        asked = {probe["httpGet"]["port"] for probe in probes if "httpGet" in probe}
        assert asked <= ports | set(model.runtime["ports"].values())
