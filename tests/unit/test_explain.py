"""`gpu-inference rules`: the list, an entry, a number."""

from __future__ import annotations

import json

import pytest

from gpu_inference.cli import main
from gpu_inference.validate import catalogue as data
from gpu_inference.validate.catalogue import catalogue


@pytest.fixture
def run(capsys):
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["rules", *words])
        return (code, *capsys.readouterr())

    return run


def test_list(run):
    code, out, _ = run()
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert code == 0
    assert list(rows) == list(catalogue())
    assert rows["startup-budget"].endswith(catalogue()["startup-budget"].summary)
    assert out.index("\nprobes:\n") < out.index("startup-budget") < out.index("\nrollout:\n")
    tables = run("-o", "markdown")[1]
    assert "## Probes" in tables
    assert all(f"| `{name}` |" in tables for name in catalogue())
    assert len(json.loads(run("-o", "json")[1])["rules"]) == len(catalogue())


@pytest.mark.parametrize("output", ["text", "json", "markdown"])
def test_entry(run, output):
    rule = catalogue()["startup-budget"]
    code, out, _ = run("startup-budget", "-o", output)
    assert code == 0
    assert all(text in out for text in (rule.summary, rule.why, *rule.codes, *rule.evidence))
    assert run("STARTUP-BUDGET", "-o", output)[1] == out


def test_number(run):
    assert "startup-budget" in run("prb002")[1]


def test_example(run, monkeypatch):
    shown = data.Rule("a-rule", "a", (), ("info",), "values", "Short.", "Long.", (), "replicas: 2\ncloud: gke\n")
    monkeypatch.setattr(data, "catalogue", lambda: {"a-rule": shown})
    assert run("a-rule")[1] == (
        "a-rule  info · needs values\n  Short.\n  Long.\n\n      replicas: 2\n      cloud: gke\n\n"
    )
    assert "```yaml\nreplicas: 2\ncloud: gke\n```" in run("a-rule", "-o", "markdown")[1]


def test_number_without_a_rule(run, monkeypatch):
    monkeypatch.setattr(data, "dropped", lambda: {"PRB999": "the chart cannot render it."})
    assert run("prb999") == (0, "PRB999 needs no rule: the chart cannot render it.\n", "")
    assert json.loads(run("PRB999", "-o", "json")[1]) == {"code": "PRB999", "dropped": "the chart cannot render it."}


@pytest.mark.parametrize(("wanted", "near"), [("start-budget", "startup-budget"), ("prb02", "PRB002"), ("?", "lists")])
def test_unknown(run, wanted, near):
    code, out, err = run(wanted)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: no rule is called {wanted}\nfix: ")
    assert near in err
