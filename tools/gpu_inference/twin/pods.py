"""The pods of the cluster, each with an emulated server behind it: made when Ready, drained when deleted, then gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.twin.kube import KubeClient
from gpu_inference.twin.replica import Replica
from gpu_inference.twin.spec import ServerSpec, server_spec

# Balloons only take room.
SELECTOR = "app.kubernetes.io/name=gpu-inference,app.kubernetes.io/component!=balloon"
INSTANCE, MODEL = "app.kubernetes.io/instance", "gpu-inference.io/model"


class Specs:
    """Resolved specs in a file, {release: {model: resolved}}: read again when it changes, as an upgrade rewrites it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = 0
        self._releases: dict[str, dict[str, Any]] = {}

    def find(self, release: str, model: str) -> ServerSpec:
        """UserError when the file cannot be read or does not know the model."""
        try:
            stamp = self.path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._releases = json.loads(self.path.read_text(encoding="utf-8"))
                self._stamp = stamp
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the resolved specs {self.path}: {error}", fix="check --resolved") from error
        resolved = self._releases.get(release, {}).get(model)
        if resolved is None:
            known = ", ".join(f"{r}/{m}" for r, models in self._releases.items() for m in models) or "none"
            raise UserError(f"no resolved spec of {release}/{model}", fix=f"{self.path} knows: {known}")
        return server_spec(resolved)


@dataclass
class Pod:
    """One pod. ports: number -> name; replica: None when the twin cannot emulate it, for the reason in `problem`."""

    namespace: str
    name: str
    uid: str
    release: str
    model: str
    ports: dict[int, str]
    pre_stop: float
    ready: bool = False
    replica: Replica | None = None
    problem: str = ""
    ending: asyncio.Task[None] | None = field(default=None, repr=False)

    def port_name(self, port: str | int) -> str:
        """A port's name, given its name or number; "" when the pod has no such port."""
        text = str(port)
        if text.isdigit():
            return self.ports.get(int(text), "")
        return text if text in self.ports.values() else ""

    def status(self) -> dict[str, Any]:
        keys = ("namespace", "name", "release", "model")
        who = {key: getattr(self, key) for key in keys} | {"ready": self.ready}
        if self.replica is None:
            return who | {"runtime": "", "state": "unknown", "problem": self.problem}
        return who | {"runtime": self.replica.spec.runtime, **self.replica.status()}


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _pre_stop(pod: dict[str, Any]) -> float:
    hook = (pod["spec"]["containers"][0].get("lifecycle") or {}).get("preStop") or {}
    return float((hook.get("sleep") or {}).get("seconds", 0))


class Pods:
    """All pods the twin stands for."""

    def __init__(self, client: KubeClient, specs: Specs, report: Callable[[str], None]) -> None:
        self.by_name: dict[tuple[str, str], Pod] = {}
        self._client, self._specs, self._report = client, specs, report
        self._reported: set[str] = set()

    async def follow(self) -> None:
        """Keep up with the API server, for ever."""
        async for kind, payload in self._client.follow("/api/v1/pods", SELECTOR):
            if kind == "SYNC":
                present = {item["metadata"]["uid"] for item in payload}
                for gone in [pod for pod in self.by_name.values() if pod.uid not in present]:
                    self._remove(gone.namespace, gone.name, gone.uid)
                for item in payload:
                    self.apply(item)
            elif kind == "DELETED":
                meta = payload["metadata"]
                self._remove(meta["namespace"], meta["name"], meta["uid"])
            else:
                self.apply(payload)

    def apply(self, item: dict[str, Any]) -> None:
        """A pod as it is now."""
        meta = item["metadata"]
        key = (meta["namespace"], meta["name"])
        pod = self.by_name.get(key)
        if pod is not None and pod.uid != meta["uid"]:  # a StatefulSet's next pod has the same name
            self._remove(*key, pod.uid)
            pod = None
        if pod is None:
            pod = self.by_name[key] = self._new(item)
        pod.ready = _ready(item)
        if pod.ready and pod.replica is not None and pod.replica.state == "loading" and pod.ending is None:
            self._start(pod)
        if meta.get("deletionTimestamp") and pod.ending is None:
            pod.ending = asyncio.create_task(self._end(pod))

    def close(self) -> None:
        """Forget everything: the twin itself ends."""
        for pod in list(self.by_name.values()):
            self._remove(pod.namespace, pod.name, pod.uid)

    def _new(self, item: dict[str, Any]) -> Pod:
        meta, labels = item["metadata"], item["metadata"].get("labels") or {}
        release, model = labels.get(INSTANCE, ""), labels.get(MODEL, "")
        named = [port for container in item["spec"]["containers"] for port in container.get("ports") or []]
        ports = {port["containerPort"]: port.get("name", "") for port in named}
        pod = Pod(meta["namespace"], meta["name"], meta["uid"], release, model, ports, _pre_stop(item))
        try:
            replica = Replica(self._specs.find(release, model))
            replica.open()
            pod.replica = replica
        except UserError as error:
            self._problem(pod, error)
        return pod

    def _start(self, pod: Pod) -> None:
        try:
            assert pod.replica is not None
            pod.replica.start()
        except UserError as error:
            pod.replica = None
            self._problem(pod, error)

    def _problem(self, pod: Pod, error: UserError) -> None:
        pod.problem = error.message
        if error.message not in self._reported:
            self._reported.add(error.message)
            self._report(f"twin: {pod.namespace}/{pod.name} cannot be emulated: {error.message} ({error.fix})")

    async def _end(self, pod: Pod) -> None:
        """A kubelet's work on a deleted pod: preStop hook, SIGTERM, wait for the exit, remove the object.

        The grace period's end and its SIGKILL come from outside: the pod's object disappears.
        """
        replica = pod.replica
        if replica is not None and replica.state == "loading":
            if replica.spec.contract["lifecycle"]["whileLoading"] != "exit":
                return
        elif replica is not None:
            await asyncio.sleep(pod.pre_stop)
            await replica.terminate()
        await self._client.delete_pod(pod.namespace, pod.name, pod.uid)

    def _remove(self, namespace: str, name: str, uid: str) -> None:
        pod = self.by_name.get((namespace, name))
        if pod is None or pod.uid != uid:
            return
        del self.by_name[(namespace, name)]
        # A task whose process has exited is only waiting for the answer to its own deletion; any other one is
        # overtaken.
        if pod.ending is not None and pod.replica is not None and pod.replica.state != "exited":
            pod.ending.cancel()
        if pod.replica is not None:
            pod.replica.kill()
