"""The render matrix: every values file, and every runtime x accelerator x cloud with generated models."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_inference.paths import CHART, VALUES

from .render import as_layer, load_yaml, render

# An overlay is no release of its own: overlay -> the values file it goes over.
OVERLAYS = {"demo": "prod"}

FILES = {p.stem: p for p in VALUES.rglob("*.yaml")}
SCENARIOS = sorted(FILES)
RUNTIMES = sorted(p.stem for p in (CHART / "runtimes").glob("*.yaml"))
ACCELERATORS = sorted(p.stem for p in (CHART / "accelerators").glob("*.yaml"))
CLOUDS = sorted(p.stem for p in (CHART / "clouds").glob("*.yaml"))


@dataclass(frozen=True)
class Case:
    """One set of values; prints as its id."""

    id: str
    layers: tuple[Path, ...] = field(repr=False)

    def __str__(self) -> str:
        return self.id

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What Helm 4 renders; that Helm 3 renders the same is a test of its own."""
        return render(layers=self.layers)


def scenario(name: str) -> Case:
    """A file of values/, with what it goes over."""
    base = [OVERLAYS[name]] if name in OVERLAYS else []
    return Case(name, tuple(FILES[stem] for stem in [*base, name]))


# What a user sets where a preset leaves the image to them, or has none for the GPU.
OWN_IMAGE = {"repository": "registry.example.com/own", "tag": "1.0"}


@functools.cache
def preset(kind: str, name: str) -> dict[str, Any]:
    """A file of the chart; nothing for a name that has none."""
    file = CHART / kind / f"{name}.yaml"
    return load_yaml(file) if file.is_file() else {}


def minimal_model(runtime: str, accelerator: str) -> dict[str, Any]:
    """The least a model must say: also the source and the parts of the image that only the user can know."""
    data = preset("runtimes", runtime)
    sources, image = data.get("modelSources", ["pvc"]), data.get("defaults", {}).get("image", {})
    source = "pvc://models/served" if "pvc" in sources else f"{sources[0]}://"
    own = {key: value for key, value in OWN_IMAGE.items() if runtime in RUNTIMES and key not in image}
    if (
        "images" in data
        and preset("accelerators", accelerator).get("resource", "nvidia.com/").split("/")[0] not in data["images"]
    ):
        own = OWN_IMAGE
    return {
        "runtime": runtime,
        "model": {"source": source, "servedName": "served"},
        "accelerator": {"type": accelerator},
        **({"image": own} if own else {}),
    }


def rich_model(runtime: str, accelerator: str, cloud: str) -> dict[str, Any]:
    """A model that uses what the API offers: several GPUs, spot, autoscaling, own times."""
    data, notice = preset("runtimes", runtime), preset("clouds", cloud).get("spot", {}).get("podGraceSeconds", -1)
    drain = {"preStopSeconds": 2, "requestSeconds": 3}
    gpu = preset("accelerators", accelerator)
    counts = [int(count) for values in gpu.get("countLabels", {}).values() for count in values]
    gpus = min(max(counts, default=2), gpu.get("gpusPerNode", 2))
    fits = sum(drain.values()) + data["lifecycle"]["teardownSeconds"] <= notice
    return {
        **minimal_model(runtime, accelerator),
        "accelerator": {"type": accelerator, "count": gpus},
        "parallelism": {"tensor": gpus},
        "capacity": "spot" if fits else "onDemand",
        "autoscaling": {
            "enabled": "inFlight" in data["metrics"],
            "minReplicas": 2,
            "maxReplicas": 6,
            "target": {"requestsInFlight": 5},
        },
        "rollout": {"spareGPU": False},
        "startup": {"loadSeconds": 333, "provisionSeconds": 0},
        "drain": drain,
        "env": {"EXTRA": "1"},
        "extraArgs": ["--extra"],
    }


def offered(cloud: dict[str, Any], accelerator: dict[str, Any]) -> bool:
    """A cloud preset can select an accelerator if the accelerator knows its value of the cloud's product label."""
    label = cloud["productLabels"].get(accelerator["resource"])
    return label in accelerator["nodeLabels"]


@functools.cache
def matrix(cloud: str) -> Case:
    """Every runtime on every accelerator the cloud offers, as the models of one release; a quarter of them, with every
    runtime among them, also as rich models."""
    marks = preset("clouds", cloud)
    known = [name for name in ACCELERATORS if offered(marks, preset("accelerators", name))]
    models = {}
    for row, runtime in enumerate(RUNTIMES):
        for column, accelerator in enumerate(known):
            models[f"{runtime}-{accelerator}"] = minimal_model(runtime, accelerator)
            if (row + column) % min(4, len(known)) == 0:
                models[f"{runtime}-{accelerator}-rich"] = rich_model(runtime, accelerator, cloud)
    return Case(f"matrix-{cloud}", (as_layer({"cloud": cloud, "models": models}),))


def cases() -> list[Case]:
    """Every values set the properties are checked on."""
    return [*map(scenario, SCENARIOS), *map(matrix, CLOUDS)]
