"""A model as a test wants to see it: its expected spec beside the objects rendered for it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from .expected import specs
from .matrix import Case
from .objects import CAPACITY_LABEL, OPERATED, Object, env_of, is_beside, is_headless, maybe, one


@dataclass(frozen=True)
class Model:
    """One model of one case."""

    name: str
    spec: dict[str, Any]  # expected, from the data files
    objects: list[Object]

    @property
    def kind(self) -> str:
        """Deployment, StatefulSet …"""
        return self.spec["workload"]

    @property
    def workload(self) -> Object:
        return one([o for o in self.objects if not is_beside(o)], self.kind, self.name)

    @property
    def mixed(self) -> bool:
        """Whether it has an on-demand base, which is `workload`, and spot pods above it."""
        return self.spec["capacity"] == "mixed"

    @property
    def burst(self) -> Object:
        """The Deployment of the spot pods."""
        return one([o for o in self.objects if CAPACITY_LABEL in o["metadata"]["labels"]], "Deployment", self.name)

    @property
    def pod(self) -> Object:
        """The template of the pods that serve; of a group, the leader's."""
        spec = self.workload["spec"]
        return spec["leaderWorkerTemplate"]["leaderTemplate"] if self.kind == "LeaderWorkerSet" else spec["template"]

    @property
    def server(self) -> Object:
        return self.pod["spec"]["containers"][0]

    @property
    def service(self) -> Object:
        """The one that requests go to."""
        return one([o for o in self.objects if not is_headless(o)], "Service", self.name)

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
    def downloaded(self) -> str:
        """Where an init container or a Job puts the model; empty where neither does."""
        for container in self.pod["spec"].get("initContainers", []):
            env = {name: entry.get("value") for name, entry in env_of(container).items()}
            if container["name"] == "engine":  # waits for what a Job builds
                continue
            return str(env["TARGET"] if "TARGET" in env else json.loads(env["DOWNLOAD"])["path"])
        return ""

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
    """Every model of a case, but those whose pods an operator makes."""
    own = {name: spec for name, spec in specs(case).items() if spec["workload"] not in OPERATED}
    return [Model(name, spec, case.objects) for name, spec in own.items()]
