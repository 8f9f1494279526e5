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


def minimal_model(runtime: str, accelerator: str) -> dict[str, Any]:
    """The least a model must say."""
    return {
        "runtime": runtime,
        "model": {"source": "pvc://models/served", "servedName": "served"},
        "accelerator": {"type": accelerator},
    }


def rich_model(runtime: str, accelerator: str, capacity: str) -> dict[str, Any]:
    """A model that uses what the API offers: several GPUs, spot, autoscaling, own times."""
    return {
        **minimal_model(runtime, accelerator),
        "accelerator": {"type": accelerator, "count": 2},
        "parallelism": {"tensor": 2},
        "capacity": capacity,
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 6, "target": {"requestsInFlight": 5}},
        "rollout": {"spareGPU": False},
        "startup": {"loadSeconds": 333, "provisionSeconds": 0},
        "drain": {"preStopSeconds": 2, "requestSeconds": 3},  # fits the shortest notice of a spot node
        "env": {"EXTRA": "1"},
        "extraArgs": ["--extra"],
    }


def offered(cloud: dict[str, Any], accelerator: dict[str, Any]) -> bool:
    """A cloud preset can select an accelerator if the accelerator knows its value of the cloud's product label."""
    label = cloud["productLabels"].get(accelerator["resource"])
    return label in accelerator["nodeLabels"]


@functools.cache
def matrix(cloud: str) -> Case:
    """Every runtime on every accelerator the cloud offers, minimal and rich, as the models of one release."""
    preset = load_yaml(CHART / "clouds" / f"{cloud}.yaml")
    capacity = "spot" if "spot" in preset else "onDemand"
    models = {}
    for accelerator in ACCELERATORS:
        if offered(preset, load_yaml(CHART / "accelerators" / f"{accelerator}.yaml")):
            for runtime in RUNTIMES:
                models[f"{runtime}-{accelerator}"] = minimal_model(runtime, accelerator)
                models[f"{runtime}-{accelerator}-rich"] = rich_model(runtime, accelerator, capacity)
    return Case(f"matrix-{cloud}", (as_layer({"cloud": cloud, "models": models}),))


def cases() -> list[Case]:
    """Every values set the properties are checked on."""
    return [*map(scenario, SCENARIOS), *map(matrix, CLOUDS)]
