"""What the demo makes of the objects it watches."""

from __future__ import annotations

import threading

from gpu_inference.demo.observe import Observer
from gpu_inference.load.process import Progress


def test_a_model_of_two_deployments_is_one_and_balloons_do_not_count():
    """An on-demand base, spot pods above it, and a balloon, which holds a GPU but nobody waits for."""

    def item(name, component, **fields):
        labels = {"gpu-inference.io/model": "m", "app.kubernetes.io/component": component}
        return {"metadata": {"name": name, "labels": labels, "generation": 1}, **fields}

    def deployment(name, component, replicas, ready):
        status = {"readyReplicas": ready, "observedGeneration": 1}
        return item(name, component, spec={"replicas": replicas}, status=status)

    gpu = {"resources": {"requests": {"nvidia.com/gpu": "1"}}}
    pod = {"spec": {"nodeName": "n", "containers": [gpu]}, "status": {"phase": "Running", "conditions": []}}
    observer = Observer.__new__(Observer)
    observer._lock, observer._resources, observer._last = threading.Lock(), {"nvidia.com/gpu"}, None
    observer.nodes, observer.began, observer.gpu_hours = 1, 0.0, 0.0
    deployments = [
        deployment("b", "balloon", 3, 0),
        deployment("m", "server", 2, 2),
        deployment("m-spot", "server", 4, 1),
    ]
    observer._items = {
        "deployment": {d["metadata"]["name"]: d for d in deployments},
        "pod": {name: item(name, part, **pod) for name, part in [("a", "server"), ("b", "server"), ("c", "balloon")]},
        "hpa": {},
    }
    seen = observer.sample("m", Progress())
    assert (seen.desired, seen.ready, seen.existing, seen.gpus) == (6, 3, 2, 3.0)
    assert observer.unavailable() == ["m-spot: 1 of 4 ready"]
