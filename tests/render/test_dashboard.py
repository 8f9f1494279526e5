"""The Grafana dashboard: valid, its own whatever else is installed, and every panel asks for what is recorded."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from support.expected import over
from support.matrix import minimal_model, scenario
from support.objects import of_kind
from support.render import NAMESPACE, RELEASE, render

from gpu_inference.paths import CHART

FILES = sorted((CHART / "dashboards").glob("*.json"))
ALERT_FILES = sorted((CHART / "alerts").glob("*.yaml"))
RECORDED = {
    rule["record"] for path in ALERT_FILES for rule in yaml.safe_load(path.read_text())["rules"] if "record" in rule
}
WANTED = {"monitoring": {"rules": {"enabled": True}, "dashboard": True}}


def dashboards(objects: list[Any]) -> list[dict[str, Any]]:
    """The dashboards of a release, as Grafana's sidecar finds them."""
    found = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["labels"].get("grafana_dashboard") == "1"]
    return [json.loads(text) for obj in found for name, text in obj["data"].items() if name.endswith(".json")]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    (found,) = dashboards(scenario("monitoring").objects)
    return found


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_file_is_rendered(dashboard):
    assert len(FILES) == 1
    assert "<<" not in json.dumps(dashboard)


def test_panels_show_what_a_guide_asks_for(dashboard):
    titles = " ".join(panel["title"] for panel in dashboard["panels"]).lower()
    for word in ("gpu utilisation", "waiting", "first token", "between tokens", "kv cache", "pods", "tokens out"):
        assert word in titles
    (gpus,) = [panel for panel in dashboard["panels"] if panel["title"] == "GPU utilisation"]
    assert "by (model, pod, gpu)" in gpus["targets"][0]["expr"], "each GPU by itself"


def test_every_series_is_recorded_and_selected(dashboard):
    assert queries(dashboard)
    for query in queries(dashboard):
        names = set(re.findall(r"([a-zA-Z_:][\w:]*)\{", query))
        assert names and names <= RECORDED | {"ALERTS"}, query
        selected = 'namespace="$namespace",release="$release",model=~"$model"'
        assert query.count(selected) == query.count("{"), query
    (model,) = [v for v in dashboard["templating"]["list"] if v["name"] == "model"]
    assert set(re.findall(r"inference:\w+", model["query"])) <= RECORDED
    assert f'namespace="{NAMESPACE}",release="{RELEASE}"' in model["query"]


def test_everything_recorded_is_shown(dashboard):
    """But for what only an alert is about."""
    shown = set(re.findall(r"inference:\w+(?::\w+)?", " ".join(queries(dashboard))))
    assert RECORDED - shown == {"inference:progress:rate3m"}


def test_variables_exist(dashboard):
    known = {v["name"] for v in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\}?", json.dumps(dashboard["panels"])))
    assert used <= known


def test_panels_do_not_overlap(dashboard):
    cells = [
        (x, y)
        for box in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_releases_have_dashboards_of_their_own():
    """Grafana refuses a second dashboard of one uid, and its sidecar a second file of one name."""
    values = {"modelDefaults": WANTED, "models": {"m": minimal_model("vllm", "nvidia-l4")}}
    both = [render(values, release=release) for release in ("one", "two")]
    assert len({dashboards(objects)[0]["uid"] for objects in both}) == 2
    assert all(len(dashboards(objects)[0]["uid"]) <= 40 for objects in both)
    keys = [name for objects in both for o in of_kind(objects, "ConfigMap") if "-dashboard" in o["metadata"]["name"]
            for name in o["data"]]  # fmt: skip
    assert len(set(keys)) == 2


def test_one_for_the_release_and_none_unless_asked_for():
    small = minimal_model("vllm", "nvidia-l4")
    assert len(dashboards(render({"models": {"a": over(small, WANTED), "b": over(small, WANTED), "c": small}}))) == 1
    assert dashboards(render({"models": {"c": small}})) == []
