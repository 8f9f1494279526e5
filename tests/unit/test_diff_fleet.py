"""GPUs of a release by the capacity they are paid for."""

from __future__ import annotations

import pytest
from support.render import as_layer

from gpu_inference.diff.render import _fleet
from gpu_inference.resolve import resolve

MODEL = "runtime: vllm, model: {source: 'hf://o/n'}, accelerator: {type: nvidia-l4, count: 2}, parallelism: {tensor: 2}"
SCALING = "autoscaling: {enabled: true, minReplicas: 4, maxReplicas: 10}"
BALLOON = "balloon: {replicas: 1}"
L4 = "nvidia-l4"


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [
        ("replicas: 3", {"onDemand": 6}, {"onDemand": 6}),
        (f"capacity: spot, {SCALING}", {"spot": 8}, {"spot": 20}),
        (f"capacity: mixed, replicas: 3, {SCALING}", {"onDemand": 6, "spot": 2}, {"onDemand": 6, "spot": 14}),
        # At least one pod is the autoscaler's.
        (f"capacity: mixed, replicas: 5, {SCALING}", {"onDemand": 10, "spot": 2}, {"onDemand": 10, "spot": 10}),
        ("replicas: 1, balloon: {replicas: 2}", {"onDemand": 6}, {"onDemand": 6}),
        (f"capacity: mixed, {SCALING}, {BALLOON}", {"onDemand": 2, "spot": 8}, {"onDemand": 2, "spot": 20}),
    ],
)
def test_gpus(values, least, most):
    text = f"cloud: eks\nmodels:\n  m: {{{MODEL}, {values}}}\n"
    found = _fleet(resolve([as_layer(text)])["models"])
    assert found.least == {(L4, capacity): gpus for capacity, gpus in least.items()}
    assert found.most == {(L4, capacity): gpus for capacity, gpus in most.items()}
