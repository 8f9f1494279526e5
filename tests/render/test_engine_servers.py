"""Servers of engines: what their pods have beside the engine."""

from __future__ import annotations

from support.job_problems import engine
from support.objects import of_kind, one
from support.render import render


def test_the_server_of_an_engine_has_what_it_was_built_from_and_downloads_nothing():
    away = engine(model={"source": "hf://meta-llama/Llama-3.1-8B"}, engine={"source": "pvc://checkpoints/llama"})
    mine, same = (one(render(values), "Deployment")["spec"]["template"]["spec"] for values in (away, engine()))
    server = mine["containers"][0]
    assert server["args"][server["args"].index("--tokenizer") + 1] == "/models/llama"
    assert mine == same


def test_spot_pods_of_an_engine_are_told_the_same():
    scaled = {"enabled": True, "minReplicas": 1, "maxReplicas": 4}
    measured = {"trtllm": {"metrics": {"since": "1.0.0"}}}
    objects = render({"cloud": "gke", "runtimes": measured, **engine(capacity="mixed", autoscaling=scaled)})
    base, burst = (d["spec"]["template"]["spec"]["containers"][0]["args"] for d in of_kind(objects, "Deployment"))
    assert base == burst and burst.count("--backend") == 1


def test_a_rollout_lasts_as_long_as_a_build():
    quick, slow = (
        one(render(engine(engine={"enabled": on, "deadlineSeconds": 5000})), "Deployment")["spec"]
        for on in (False, True)
    )
    assert slow["progressDeadlineSeconds"] == quick["progressDeadlineSeconds"] + 5000
