"""Emulated servers for tests: on loopback in this process, or in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from gpu_inference.paths import ROOT
from gpu_inference.twin import contract
from gpu_inference.twin.replica import Refused, Replica
from gpu_inference.twin.spec import server_spec
from gpu_inference.twin.standalone import bound_port, listen, low_level_runner
from gpu_inference.values.presets import load_presets

SCRAPES = ROOT.parent / "shared" / "metrics"
EMULATED = sorted(set(contract.known()) & set(load_presets("runtimes")))


def resolved(runtime: str = "vllm", accelerator: str = "nvidia-h100", **model: Any) -> dict[str, Any]:
    """A resolved spec as gpu_inference.resolve gives it, with what the twin reads. An H100 so that tests are quick."""
    figures = {"servedName": "tiny", "parametersBillion": 1.0, "weightsDtype": "fp8", "contextLength": 1024}
    return {
        "name": "tiny",
        "runtime": runtime,
        "runtimePreset": copy.deepcopy(load_presets("runtimes")[runtime]),
        "acceleratorPreset": load_presets("accelerators")[accelerator],
        "accelerator": {"type": accelerator, "count": 1},
        "parallelism": {"tensor": 1, "pipeline": 1},
        "model": figures | model,
        "startup": {"loadSeconds": 0},
        "drain": {"preStopSeconds": 0, "requestSeconds": 5},
    }


@dataclass
class Live:
    """A replica on loopback. urls: port name -> URL."""

    replica: Replica
    urls: dict[str, str]
    client: aiohttp.ClientSession

    async def get(self, path: str, port: str = "http") -> tuple[int, str]:
        async with self.client.get(self.urls[port] + path) as response:
            return response.status, await response.text()

    async def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        async with self.client.post(self.urls["http"] + path, json=body) as response:
            return response.status, await response.json()

    async def stream(self, path: str, **body: Any) -> list[dict[str, Any] | str]:
        """The events of a streamed answer; the end mark stays text."""
        async with self.client.post(self.urls["http"] + path, json={"stream": True, **body}) as response:
            assert response.status == 200, await response.text()
            assert response.headers["x-simulated"] == "gpu-inference-twin"
            lines = [line[6:].strip() async for line in response.content if line.startswith(b"data: ")]
        return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]

    async def scrape(self) -> str:
        """The exposition at the preset's port and path."""
        spec = self.replica.spec
        status, text = await self.get(spec.metrics_path, spec.metrics_port)
        assert status == 200
        return text

    async def metric(self, text: str, port: str = "http") -> float:
        """The value of the series that starts with `text`."""
        _, exposition = await self.get("/metrics", port)
        values = [line.rsplit(" ", 1)[1] for line in exposition.splitlines() if line.startswith(text)]
        assert len(values) == 1, f"{text}: {len(values)} series"
        return float(values[0])


def work(runtime: str) -> tuple[str, dict[str, Any]]:
    """Path and body of a request the model `tiny` works on."""
    api = load_presets("runtimes")[runtime]["api"]
    if api == "openai":
        return "/v1/completions", {"prompt": "a", "max_tokens": 1}
    if api == "triton":
        item = {"name": "IN", "shape": [1], "datatype": "FP32", "data": [1]}
        return "/v2/models/tiny/infer", {"inputs": [item]}
    paths = contract.load(runtime)["paths"]
    return paths["infer"].format(servedName="tiny") or "/anything", {paths.get("items", "x"): [21]}


@contextlib.asynccontextmanager
async def live(spec: dict[str, Any]) -> AsyncIterator[Live]:
    """A started replica with a socket for each port."""
    replica = Replica(server_spec(spec))
    replica.start()
    urls, runners = {}, []
    for name in replica.spec.ports:

        async def handle(request: Any, port: str = name) -> Any:
            try:
                return await replica.handle(request, port, request.path)
            except Refused:
                request.transport.abort()
                raise

        runner = low_level_runner(handle)
        await runner.setup()
        runners.append(runner)
        urls[name] = f"http://127.0.0.1:{bound_port(await listen(runner, '127.0.0.1', 0))}"
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as client:
        try:
            yield Live(replica, urls, client)
        finally:
            replica.kill()
            for runner in runners:
                await runner.cleanup()


async def eventually(condition: Any, seconds: float = 5.0) -> None:
    """Wait until `condition()` holds; an awaitable result is awaited."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the condition did not become true in time")


@contextlib.contextmanager
def process(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """`gpu-inference twin` with these options: the process, and the ports it listens on once it says so."""
    command = [sys.executable, "-c", "from gpu_inference.cli import main; raise SystemExit(main())", "twin", *options]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert "listening" in line, line + (child.stderr.read() if child.stderr else "")
        found = re.findall(r"(?:(\w+)=)?http://127\.0\.0\.1:(\d+)", line)
        yield child, {name or "http": int(port) for name, port in found}
    finally:
        child.kill()
        child.communicate()
