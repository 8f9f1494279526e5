"""A model as a test wants to see it: its expected spec beside the objects rendered for it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from .expected import specs
from .matrix import Case
from .objects import Object, env_of, maybe, one, server


@dataclass(frozen=True)
class Model:
    """One model of one case."""

    name: str
    spec: dict[str, Any]  # expected, from the data files
    objects: list[Object]

    @property
    def deployment(self) -> Object:
        return one(self.objects, "Deployment", self.name)

    @property
    def pod(self) -> Object:
        return self.deployment["spec"]["template"]

    @property
    def server(self) -> Object:
        return server(self.deployment)

    @property
    def service(self) -> Object:
        return one(self.objects, "Service", self.name)

    @property
    def hpa(self) -> Object | None:
        return maybe(self.objects, "HorizontalPodAutoscaler", self.name)

    @property
    def pdb(self) -> Object | None:
        return maybe(self.objects, "PodDisruptionBudget", self.name)

    @property
    def env(self) -> dict[str, Object]:
        return env_of(self.server)

    @property
    def runtime(self) -> dict[str, Any]:
        return self.spec["_runtime"]

    @property
    def startup_budget(self) -> int:
        """Seconds a container may load before it is restarted."""
        probe = self.server["startupProbe"]
        return probe.get("initialDelaySeconds", 0) + probe["periodSeconds"] * probe["failureThreshold"]


@functools.cache
def models(case: Case) -> list[Model]:
    """Every model of a case."""
    return [Model(name, spec, case.objects) for name, spec in specs(case).items()]
