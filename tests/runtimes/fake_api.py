"""A small Kubernetes API server for tests: lists, watches and deletes three kinds of objects."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

PODS, SERVICES, SLICES = "/api/v1/pods", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"


class Api:
    """Lists, watches and deletes, with resource versions; the watch history can be lost."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {PODS: {}, SERVICES: {}, SLICES: {}}
        self.history: list[tuple[int, str, dict[str, Any]]] = []
        self.version = 1
        self.oldest = 0
        self.lists = self.watches = 0
        self.forbidden = False
        self.deletions: list[tuple[str, dict[str, Any]]] = []
        self._changed = asyncio.Condition()
        self._streams: set[asyncio.Task[Any]] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/version":
            return web.json_response({"major": "1"})
        if request.method == "DELETE":
            name = path.rsplit("/", 1)[1]
            self.deletions.append((name, await request.json()))
            await self.change(PODS, "DELETED", self.objects[PODS].get(name, pod(name)))
            return web.json_response({})
        if self.forbidden:
            return web.json_response({}, status=403)
        if request.query.get("watch") != "true":
            self.lists += 1
            items = list(self.objects[path].values())
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        return await self._watch(request, path)

    async def _watch(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        self.watches += 1
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if since < self.oldest:
            gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
            await response.write(json.dumps(gone).encode() + b"\n")
            return response
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            while True:
                for version, where, event in list(self.history):
                    if version > since and where == path:
                        since = version
                        await response.write(json.dumps(event).encode() + b"\n")
                async with self._changed:
                    await self._changed.wait()
        finally:
            self._streams.discard(task)

    async def change(self, path: str, kind: str, item: dict[str, Any]) -> None:
        """An object was added, modified or deleted; watchers are told."""
        self.version += 1
        item = json.loads(json.dumps(item))
        item["metadata"]["resourceVersion"] = str(self.version)
        if kind == "DELETED":
            self.objects[path].pop(item["metadata"]["name"], None)
        else:
            self.objects[path][item["metadata"]["name"]] = item
        self.history.append((self.version, path, {"type": kind, "object": item}))
        async with self._changed:
            self._changed.notify_all()

    def drop_watches(self, lose_history: bool) -> None:
        """Watches end, as they do every few minutes; with lost history they must list again."""
        if lose_history:
            self.version += 1
            self.oldest = self.version
        for stream in list(self._streams):
            stream.cancel()


def pod(name: str, ready: bool = False, model: str = "tiny", pre_stop: int = 0, **meta: Any) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": "gpu-inference",
        "app.kubernetes.io/instance": "llm",
        "gpu-inference.io/model": model,
    }
    container: dict[str, Any] = {"name": "server", "ports": [{"name": "http", "containerPort": 8000}]}
    if pre_stop:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": pre_stop}}}
    return {
        "metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}", "labels": labels, **meta},
        "spec": {"containers": [container]},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def deleted(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"metadata": item["metadata"] | {"deletionTimestamp": "2026-11-21T00:00:00Z"}}


SERVICE = {
    "metadata": {"namespace": "default", "name": "llm-tiny"},
    "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
}


def endpoint_slice(**ready: bool | None) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "default",
            "name": "llm-tiny-x",
            "labels": {"kubernetes.io/service-name": "llm-tiny"},
        },
        "ports": [{"name": "http", "port": 8000}],
        "endpoints": [
            {"targetRef": {"kind": "Pod", "name": name}, "conditions": {} if state is None else {"ready": state}}
            for name, state in ready.items()
        ],
    }
