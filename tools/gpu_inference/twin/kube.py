"""The little of the Kubernetes API the twin needs: follow objects, delete a pod. Plain HTTP with a kubeconfig's
certificate."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gpu_inference.errors import UserError

FIX = "give the --kubeconfig of a running cluster (gpu-inference cluster kubeconfig)"
WATCH_SECONDS = 300
BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)


def _entry(config: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    for item in config.get(f"{kind}s") or []:
        if item.get("name") == name:
            entry: dict[str, Any] = item[kind]
            return entry
    raise UserError(f"the kubeconfig has no {kind} {name}", fix=FIX)


def _material(entry: Mapping[str, Any], key: str, base: Path) -> bytes | None:
    """A certificate or key: inline (base64) or in a file relative to the kubeconfig."""
    if entry.get(f"{key}-data"):
        return base64.b64decode(entry[f"{key}-data"])
    if entry.get(key):
        return (base / entry[key]).read_bytes()
    return None


class KubeClient:
    """A connection to one API server; use it as an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        """UserError when the kubeconfig cannot be read or lacks its current context."""
        try:
            config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"cannot read the kubeconfig {kubeconfig}: {error}", fix=FIX) from error
        if not isinstance(config, dict):
            raise UserError(f"{kubeconfig} is not a kubeconfig", fix=FIX)
        try:
            context = _entry(config, "context", config.get("current-context", ""))
            cluster, user = _entry(config, "cluster", context["cluster"]), _entry(config, "user", context["user"])
            self.server: str = cluster["server"].rstrip("/")
        except (KeyError, TypeError) as error:
            raise UserError(f"{kubeconfig} is not a whole kubeconfig: {error} is missing", fix=FIX) from error
        self._ssl = self._tls(cluster, user, kubeconfig.parent) if self.server.startswith("https") else False
        self._headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
        self._session: aiohttp.ClientSession | None = None

    @staticmethod
    def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], base: Path) -> ssl.SSLContext:
        authority = _material(cluster, "certificate-authority", base)
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate, key = _material(user, "client-certificate", base), _material(user, "client-key", base)
        if certificate and key:
            # The ssl module reads a certificate chain from a file only.
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                file.write(certificate + b"\n" + key)
                file.flush()
                context.load_cert_chain(file.name)
        return context

    async def __aenter__(self) -> KubeClient:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl), headers=self._headers, timeout=timeout, read_bufsize=2**23
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use KubeClient as a context manager"
        return self._session

    async def check(self) -> None:
        """UserError when the API server does not answer, or not to us."""
        try:
            async with self.session.get(f"{self.server}/version") as response:
                if response.status != 200:
                    raise UserError(f"{self.server} answered {response.status} to GET /version", fix=FIX)
        except aiohttp.ClientError as error:
            raise UserError(f"cannot reach {self.server}: {error}", fix=FIX) from error

    async def follow(self, path: str, selector: str = "") -> AsyncIterator[tuple[str, Any]]:
        """("SYNC", [all objects]) first and whenever the history was lost, then ("ADDED" | "MODIFIED" | "DELETED",
        object).

        Never ends: an expired watch is resumed, a lost one is listed again, an API server that is away is waited for.
        """
        failures = 0
        version = ""
        while True:
            try:
                if not version:
                    items, version = await self._list(path, selector)
                    yield "SYNC", items
                async for kind, item in self._watch(path, selector, version):
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield kind, item
                failures = 0
            except (_HistoryLost, ValueError):  # ValueError: the connection broke inside a line
                version = ""
            except aiohttp.ClientResponseError as error:
                if error.status in (401, 403):
                    raise UserError(f"{self.server}{path}: {error.status} {error.message}", fix=FIX) from error
                await asyncio.sleep(BACKOFF[-1])
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
                failures += 1

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        """What a kubelet does when all containers have ended: remove the object at once, if it is still the same
        pod."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        url = f"{self.server}/api/v1/namespaces/{namespace}/pods/{name}"
        for pause in (*BACKOFF, None):
            try:
                async with self.session.delete(url, json=options) as response:
                    if response.status < 500:  # 404 and 409: gone, or another pod of that name
                        return
            except aiohttp.ClientError:
                pass
            if pause is not None:
                await asyncio.sleep(pause)

    async def _list(self, path: str, selector: str) -> tuple[list[Any], str]:
        params = {"labelSelector": selector} if selector else {}
        async with self.session.get(self.server + path, params=params) as response:
            response.raise_for_status()
            body = await response.json()
        return body["items"], body["metadata"]["resourceVersion"]

    async def _watch(self, path: str, selector: str, version: str) -> AsyncIterator[tuple[str, Any]]:
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if selector:
            params["labelSelector"] = selector
        async with self.session.get(self.server + path, params=params) as response:
            if response.status == 410:
                raise _HistoryLost
            response.raise_for_status()
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":  # 410 Gone inside the stream
                    raise _HistoryLost
                yield event["type"], event["object"]


class _HistoryLost(Exception):
    """The resource version is too old: list again."""
