"""The twin behind a cluster's pods, against a small API server: routing, watches, deletion."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from runtimes.fake_api import PODS, SERVICE, SERVICES, SLICES, Api, deleted, endpoint_slice, pod
from runtimes.twin_support import EMULATED, eventually, resolved

from gpu_inference.errors import UserError
from gpu_inference.twin.embedded import Router
from gpu_inference.twin.endpoints import Endpoints
from gpu_inference.twin.kube import KubeClient
from gpu_inference.twin.pods import Pods, Specs
from gpu_inference.twin.standalone import bound_port, listen, low_level_runner


class Twin:
    """The embedded twin's parts, wired as `run` wires them."""

    def __init__(self, api: Api, router: Router, pods: Pods, url: str, session: aiohttp.ClientSession) -> None:
        self.api, self.router, self.pods, self.url, self.session = api, router, pods, url, session
        self.reports: list[str] = []

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.text()

    async def generate(self, target: str, **body: Any) -> tuple[int, str]:
        url = f"{self.url}/api/v1/namespaces/default/{target}/proxy/v1/completions"
        async with self.session.post(url, json={"prompt": "a", "max_tokens": 3, **body}) as response:
            return response.status, await response.text()

    async def state(self, name: str, state: str) -> None:
        """Wait until a pod is in a state; "" means gone."""
        await eventually(lambda: self._state(name) == state, seconds=12)

    def _state(self, name: str) -> str:
        found = self.pods.by_name.get(("default", name))
        return "" if found is None else found.status()["state"]


@contextlib.asynccontextmanager
async def embedded(folder: Path, spec: dict[str, Any]) -> AsyncIterator[Twin]:
    api = Api()
    api_runner = low_level_runner(api.handle)
    await api_runner.setup()
    server = f"http://127.0.0.1:{bound_port(await listen(api_runner, '127.0.0.1', 0))}"
    kubeconfig, specs = folder / "kubeconfig", folder / "resolved.json"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    specs.write_text(json.dumps({"llm": {"tiny": spec}}))
    reports: list[str] = []
    async with KubeClient(kubeconfig) as client, aiohttp.ClientSession() as session:
        await client.check()
        pods, endpoints = Pods(client, Specs(specs), reports.append), Endpoints(client)
        router = Router(pods, endpoints)
        runner = low_level_runner(router.handle)
        await runner.setup()
        site = await listen(runner, "127.0.0.1", 0)
        followers = (pods.follow(), endpoints.follow_services(), endpoints.follow_slices())
        tasks = [asyncio.create_task(follower) for follower in followers]
        twin = Twin(api, router, pods, f"http://127.0.0.1:{bound_port(site)}", session)
        twin.reports = reports
        try:
            yield twin
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            pods.close()
            await runner.cleanup()
            await api_runner.cleanup()


def on(folder: Path, check: Callable[[Twin], Awaitable[None]], spec: dict[str, Any] | None = None) -> None:
    async def run() -> None:
        async with embedded(folder, spec or resolved()) as twin:
            await check(twin)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_pod_serves_once_it_is_ready(tmp_path: Path) -> None:
    async def check(twin: Twin) -> None:
        await twin.api.change(PODS, "ADDED", pod("a"))
        await twin.state("a", "loading")
        status, text = await twin.generate("pods/a:8000")
        assert (status, "connection refused" in text) == (503, True)
        await twin.api.change(PODS, "MODIFIED", pod("a", ready=True))
        await twin.state("a", "serving")
        for target in ("pods/a:8000", "pods/a:http", "pods/a", "pods/http:a:8000"):
            assert (await twin.generate(target))[0] == 200
        assert (await twin.generate("pods/a:9999"))[0] == 503
        assert (await twin.generate("pods/b:8000"))[0] == 404
        metrics = (await twin.get("/api/v1/namespaces/default/pods/a:8000/proxy/metrics"))[1]
        assert 'vllm:generation_tokens_total{engine="0",model_name="tiny"} 12.0' in metrics
        assert (await twin.get("/nothing"))[0] == 404

    on(tmp_path, check)


def test_a_service_uses_its_ready_endpoints_only(tmp_path: Path) -> None:
    async def check(twin: Twin) -> None:
        assert "not found" in (await twin.generate("services/llm-tiny:http"))[1]
        await twin.api.change(SERVICES, "ADDED", SERVICE)
        for name in "abc":
            await twin.api.change(PODS, "ADDED", pod(name, ready=True))
            await twin.state(name, "serving")
        status, text = await twin.generate("services/llm-tiny:http")
        assert (status, "no endpoints available" in text) == (503, True)
        await twin.api.change(SLICES, "ADDED", endpoint_slice(a=True, b=None, c=False))

        async def routed() -> bool:
            return (await twin.generate("services/llm-tiny:80"))[0] == 200

        await eventually(routed)
        for target in ("services/llm-tiny:http", "services/llm-tiny:80", "services/llm-tiny"):
            for _ in range(10):
                assert (await twin.generate(target))[0] == 200
        status_body = json.loads((await twin.get("/twin/status"))[1])
        finished = {entry["name"]: entry["finished"] for entry in status_body["pods"]}
        assert finished["a"] > 5
        assert finished["b"] > 5
        assert finished["c"] == 0
        assert status_body["totals"]["finished"] == finished["a"] + finished["b"]
        assert status_body["totals"]["unroutable"] >= 2
        assert status_body["simulated"] is True
        assert (await twin.generate("services/llm-tiny:grpc"))[0] == 503

    on(tmp_path, check)


def test_a_deleted_pod_drains_after_its_pre_stop_and_is_removed(tmp_path: Path) -> None:
    async def check(twin: Twin) -> None:
        await twin.api.change(PODS, "ADDED", pod("a", ready=True, pre_stop=1))
        await twin.state("a", "serving")
        body = {"max_tokens": 500, "ignore_eos": True, "stream": True}
        stream = asyncio.create_task(twin.generate("pods/a:8000", **body))
        await eventually(lambda: twin.pods.by_name[("default", "a")].status()["running"] == 1)
        began = asyncio.get_running_loop().time()
        await twin.api.change(PODS, "MODIFIED", deleted(pod("a", ready=True, pre_stop=1)))
        await asyncio.sleep(0.3)
        # The preStop hook sleeps: requests that still arrive are served as before.
        assert (await twin.generate("pods/a:8000"))[0] == 200
        await twin.state("a", "draining")
        assert asyncio.get_running_loop().time() - began >= 0.99
        assert (await twin.generate("pods/a:8000"))[0] == 500
        assert (await twin.get("/api/v1/namespaces/default/pods/a:8000/proxy/health"))[0] == 200
        status, text = await stream
        assert (status, text.count("data: ")) == (200, 501)
        assert twin.api.deletions == []
        await twin.state("a", "")
        assert twin.api.deletions == [("a", {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-a"}})]
        assert (await twin.generate("pods/a:8000"))[0] == 404

    spec = resolved(parametersBillion=8.03)
    on(tmp_path, check, spec)


def test_the_end_of_the_grace_period_kills(tmp_path: Path) -> None:
    """A pod whose object disappears while it works: its connections are reset."""

    async def check(twin: Twin) -> None:
        await twin.api.change(PODS, "ADDED", pod("a", ready=True))
        await twin.state("a", "serving")
        stream = asyncio.create_task(twin.generate("pods/a:8000", max_tokens=900, ignore_eos=True))
        await eventually(lambda: twin.pods.by_name[("default", "a")].status()["running"] == 1)
        await twin.api.change(PODS, "DELETED", pod("a"))
        with pytest.raises(aiohttp.ClientError):
            await stream
        assert twin.pods.by_name == {}

    on(tmp_path, check)


def test_a_pod_deleted_while_loading_waits_for_its_kill(tmp_path: Path) -> None:
    """vLLM swallows SIGTERM while it loads; Triton's process ends."""

    async def vllm(twin: Twin) -> None:
        await twin.api.change(PODS, "ADDED", pod("a"))
        await twin.api.change(PODS, "MODIFIED", deleted(pod("a")))
        await twin.state("a", "loading")
        await asyncio.sleep(0.3)
        assert twin.api.deletions == []

    async def triton(twin: Twin) -> None:
        await twin.api.change(PODS, "ADDED", pod("a"))
        await twin.api.change(PODS, "MODIFIED", deleted(pod("a")))
        await eventually(lambda: [name for name, _ in twin.api.deletions] == ["a"])

    on(tmp_path, vllm)
    on(tmp_path, triton, resolved("triton"))


@pytest.mark.skipif("bentoml" not in EMULATED, reason="chart/runtimes has no preset bentoml")
def test_requests_wait_for_a_pod_that_listens_while_it_loads(tmp_path: Path) -> None:
    async def check(twin: Twin) -> None:
        for name in "ab":
            await twin.api.change(PODS, "ADDED", pod(name))
            await twin.state(name, "loading")
        url = "/api/v1/namespaces/default/pods/%s:http/proxy/readyz"
        served, killed = (asyncio.create_task(twin.get(url % name)) for name in "ab")
        await asyncio.sleep(0.2)
        assert not (served.done() or killed.done())
        await twin.api.change(PODS, "MODIFIED", pod("a", ready=True))
        await twin.api.change(PODS, "DELETED", pod("b"))
        assert (await served)[0] == 200
        assert (await killed)[0] == 503

    on(tmp_path, check, resolved("bentoml"))


@pytest.mark.parametrize("lose_history", [False, True])
def test_watches_survive_their_end(tmp_path: Path, lose_history: bool) -> None:
    async def check(twin: Twin) -> None:
        for name in "ab":
            await twin.api.change(PODS, "ADDED", pod(name, ready=True))
            await twin.state(name, "serving")
        lists = twin.api.lists
        replica = twin.pods.by_name[("default", "a")].replica
        twin.api.drop_watches(lose_history)
        # Missed while no watch was open: a deletion and a new pod.
        await twin.api.change(PODS, "DELETED", pod("b"))
        await twin.api.change(PODS, "ADDED", pod("c", ready=True))
        if lose_history:
            twin.api.history.clear()
            twin.api.oldest = twin.api.version
        await twin.state("c", "serving")
        await twin.state("b", "")
        assert twin.pods.by_name[("default", "a")].replica is replica
        assert (twin.api.lists > lists) == lose_history
        assert (await twin.generate("pods/a:8000"))[0] == 200

    on(tmp_path, check)


def test_credentials_that_may_not_list_are_an_error(tmp_path: Path) -> None:
    async def check(twin: Twin) -> None:
        twin.api.forbidden = True
        with pytest.raises(UserError, match="403"):
            async for _ in twin.pods._client.follow(PODS):
                pass

    on(tmp_path, check)


def test_a_pod_of_the_same_name_is_a_new_server(tmp_path: Path) -> None:
    async def check(twin: Twin) -> None:
        await twin.api.change(PODS, "ADDED", pod("a", ready=True))
        await twin.state("a", "serving")
        assert (await twin.generate("pods/a:8000"))[0] == 200
        await twin.api.change(PODS, "MODIFIED", pod("a", ready=True, uid="second"))
        await eventually(lambda: twin.pods.by_name[("default", "a")].uid == "second")
        assert twin.pods.by_name[("default", "a")].status()["finished"] == 0

    on(tmp_path, check)


def test_unknown_models_are_reported_once_and_answered(tmp_path: Path) -> None:
    async def check(twin: Twin) -> None:
        for name in "ab":
            await twin.api.change(PODS, "ADDED", pod(name, ready=True, model="other"))
            await twin.state(name, "unknown")
        status, text = await twin.generate("pods/a:8000")
        assert (status, "no resolved spec of llm/other" in text) == (503, True)
        assert [line for line in twin.reports if "llm/other" in line] == twin.reports
        assert len(twin.reports) == 1

    on(tmp_path, check)


def test_specs_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "resolved.json"
    path.write_text(json.dumps({"llm": {"tiny": resolved()}}))
    specs = Specs(path)
    assert specs.find("llm", "tiny").served_name == "tiny"
    with pytest.raises(UserError, match="no resolved spec of llm/new") as caught:
        specs.find("llm", "new")
    assert "llm/tiny" in caught.value.fix
    path.write_text(json.dumps({"llm": {"new": resolved(servedName="fresh")}}))
    assert specs.find("llm", "new").served_name == "fresh"
    path.write_text("{")
    with pytest.raises(UserError, match="cannot read the resolved specs"):
        specs.find("llm", "new")


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "{current-context: x}", "{current-context: x, contexts: [{name: x}]}"]
)
def test_a_broken_kubeconfig_is_a_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        KubeClient(path)
    assert "kubeconfig" in caught.value.message
    assert caught.value.fix


def test_an_api_server_that_is_away_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(yaml.safe_dump(config))

    async def check() -> None:
        async with KubeClient(path) as client:
            await client.check()

    with pytest.raises(UserError, match="cannot reach"):
        asyncio.run(check())
