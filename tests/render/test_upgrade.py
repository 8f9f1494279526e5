"""From the first release to the working tree, its own values unchanged: what is refused, what goes, what restarts."""

from __future__ import annotations

import copy

import pytest
from support.objects import is_hook, name, one
from support.releases import first_release, its_values, matches, refused, restarts
from support.render import load_yaml, render

from gpu_inference.paths import CHART, ROOT

ACCEPTED = load_yaml(ROOT / "tests" / "render" / "upgrade.yaml") or []


@pytest.fixture(scope="module")
def both():
    """Values set -> (objects of the first release, objects of the working tree)."""
    old = first_release() / "chart"
    return {
        values: (render(layers=layers, chart=old), render(layers=layers, chart=CHART))
        for values, layers in its_values().items()
    }


def test_old_values_are_still_accepted(both, major):
    assert len(both) > 5
    for layers in its_values().values():
        assert render(layers=layers, major=major)


def test_nothing_is_changed_that_kubernetes_does_not_let_change(both):
    assert {values: found for values, pair in both.items() if (found := list(map(str, refused(*pair))))} == {}


def test_no_object_goes(both):
    """What goes with an upgrade was somebody's: a Service, an autoscaler, a claim."""
    for values, (old, new) in both.items():
        gone = {name(o) for o in old if not is_hook(o)} - {name(o) for o in new}
        assert gone == set(), values


def test_every_restart_has_a_reason(both):
    found = [(values, change) for values, pair in both.items() for change in restarts(*pair)]
    unexplained = [
        f"{values}: {change}" for values, change in found if not any(matches(e, values, change) for e in ACCEPTED)
    ]
    assert unexplained == []
    idle = [entry for entry in ACCEPTED if not any(matches(entry, values, change) for values, change in found)]
    assert idle == [], "these are about nothing: remove them"
    assert all(len(entry["reason"]) > 10 for entry in ACCEPTED)


def test_what_these_tests_look_for_is_seen(both):
    old, _ = both["stateful"]
    new = copy.deepcopy(old)
    one(new, "StatefulSet", "llama")["spec"]["serviceName"] = "other"
    one(new, "Deployment", "editor")["spec"]["selector"]["matchLabels"]["a"] = "b"
    assert {change.where for change in refused(old, new)} == {"StatefulSet/llm-llama", "Deployment/llm-editor"}
    one(new, "StatefulSet", "llama")["spec"]["template"]["spec"]["containers"][0]["args"].append("--new")
    (change,) = restarts(old, new)
    assert change.path == "spec.containers[server].args"
