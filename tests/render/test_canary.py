"""`helm test`: the pods that ask each model for an answer, and the script they run, against servers good and bad."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.matrix import minimal_model
from support.objects import containers, env_of, is_hook, model_of, of_kind, selects
from support.render import NAMESPACE, render
from support.views import Model

from gpu_inference.paths import CHART


def canary_pod(model: Model) -> dict[str, Any]:
    (pod,) = [o for o in of_kind(model.objects, "Pod", hooks=True) if model_of(o) == model.name]
    return pod


def tested(models: list[Model]) -> list[Model]:
    return [model for model in models if model.spec["test"]["enabled"]]


def request_of(model: Model) -> dict[str, Any]:
    """What the pod is told to ask."""
    return json.loads(env_of(canary_pod(model)["spec"]["containers"][0])["CANARY"]["value"])


def test_every_model_is_asked_through_its_service(models):
    for model in tested(models):
        asked, preset = request_of(model), model.spec["canary"].get("request", model.runtime["canary"])
        service, port = model.service["metadata"]["name"], model.spec["service"]["port"]
        path = preset["path"].replace("{servedName}", model.spec["model"]["servedName"])
        assert asked["url"] == f"http://{service}.{NAMESPACE}.svc:{port}{path}"
        assert asked["method"] == preset["method"]
        assert asked["expect"] == preset["expect"]
        body = json.dumps(preset.get("body")).replace("{servedName}", model.spec["model"]["servedName"])
        assert asked.get("body") == json.loads(body)


def test_a_name_with_quotes_stays_one(major):
    model = {**minimal_model("vllm", "nvidia-l4"), "model": {"source": "pvc://m", "servedName": 'a"b\\c'}}
    (pod,) = of_kind(render({"models": {"m": model}}, major=major), "Pod", hooks=True)
    asked = json.loads(env_of(pod["spec"]["containers"][0])["CANARY"]["value"])
    assert asked["body"]["model"] == 'a"b\\c'


def test_test_pods_are_hooks_that_go_again(case):
    hooks = [o for o in case.objects if is_hook(o)]
    assert hooks
    for hook in hooks:
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "test"
        assert "before-hook-creation" in annotations["helm.sh/hook-delete-policy"]


def test_services_do_not_reach_test_pods(case, models):
    """A Service that selected them would send them requests."""
    for model in tested(models):
        labels = canary_pod(model)["metadata"]["labels"]
        for obj in of_kind(case.objects, "Service", "PodDisruptionBudget", "Deployment", "StatefulSet", "PodMonitor"):
            assert not selects(obj["spec"]["selector"], labels)


def test_the_script_is_mounted(case, models):
    (script,) = [found for found in of_kind(case.objects, "ConfigMap", hooks=True) if is_hook(found)]
    assert script["data"]["canary.py"].strip() == (CHART / "files/canary.py").read_text().strip()
    for model in tested(models):
        pod = canary_pod(model)
        (container,) = containers(pod)
        assert container["command"] == ["python3", "/canary/canary.py"]
        assert {"name": "canary", "configMap": {"name": script["metadata"]["name"]}} in pod["spec"]["volumes"]
        wanted = model.spec["test"].get("image", model.server["image"])
        assert container["image"] == wanted, "another image would have to be pulled"


# The script.


class Server(socketserver.ThreadingTCPServer):
    """Sends the given bytes, one after the other, as answers to connections; the last one again and again."""

    allow_reuse_address = True

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline().strip():
                    server.asked.append(line)
                self.wfile.write(server.answers.pop(0) if len(server.answers) > 1 else server.answers[0])

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


def http(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture
def serve() -> Iterator[Any]:
    running: list[Server] = []

    def start(*answers: bytes) -> str:
        running.append(Server(*answers))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return running[-1].url

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def ask(url: str, expect: dict[str, Any], attempts: int = 1, **more: Any) -> tuple[int, str]:
    """(exit code, output) of the script, without pauses between attempts."""
    canary = {"url": url, "method": "GET", "expect": expect, "attempts": attempts, "timeoutSeconds": 2, **more}
    code = "import runpy, time; time.sleep = lambda s: None; runpy.run_path(%r, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code % str(CHART / "files/canary.py")],
        env={**os.environ, "CANARY": json.dumps(canary)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


BOUNDS = {"path": "y", "min": 41.9, "max": 42.1}
ONE_TOKEN = {"path": "usage.completion_tokens", "equals": 1}


@pytest.mark.parametrize(
    ("answer", "expect", "code"),
    [
        (http(""), {"status": 200}, 0),
        (http("", "503 Service Unavailable"), {"status": 200}, 1),
        (http('{"usage": {"completion_tokens": 1}}'), ONE_TOKEN, 0),
        (http('{"usage": {"completion_tokens": 2}}'), ONE_TOKEN, 1),
        (http('{"usage": {}}'), ONE_TOKEN, 1),
        (http("null"), ONE_TOKEN, 1),
        (http("<html>not JSON</html>"), ONE_TOKEN, 1),
        (http('{"usage": {"completion_tokens": 1}}', "500 Internal Server Error"), ONE_TOKEN, 1),
        (http('{"choices": [{"n": 7}]}'), {"path": "choices.0.n", "equals": 7}, 0),
        (http('{"y": 41.99}'), BOUNDS, 0),
        (http('{"y": 41.5}'), BOUNDS, 1),
        (http('{"y": 42.5}'), BOUNDS, 1),
        (http('{"y": NaN}'), BOUNDS, 1),
        (http('{"y": "42"}'), BOUNDS, 1),
        (http('{"y": 1e9}'), {"path": "y", "min": 0}, 0),
        (b"", {"status": 200}, 1),
        (b"garbage\r\n\r\n", {"status": 200}, 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut off", {"status": 200}, 1),
        (http("x").replace(b"x", b"\xff"), ONE_TOKEN, 1),
    ],
    ids=["status", "wrong status", "value", "wrong value", "no value", "null", "no JSON", "value with an error status",
         "list", "within", "below", "above", "not a number", "text", "one bound", "nothing",
         "no HTTP", "cut off", "no text"],
)  # fmt: skip
def test_answers(serve, answer, expect, code):
    exit_code, said = ask(serve(answer), expect)
    assert exit_code == code, said
    assert said.strip()


def test_a_model_that_comes_late_is_asked_again(serve):
    url = serve(http("", "503 Service Unavailable"), b"", http(""))
    assert ask(url, {"status": 200}, attempts=2)[0] == 1
    assert ask(serve(http("", "503 Service Unavailable"), b"", http("")), {"status": 200}, attempts=3)[0] == 0


def test_the_key_is_sent(monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "abc")
    with Server(http("")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert ask(server.url, {"status": 200})[0] == 0
        assert not [line for line in server.asked if line.lower().startswith(b"authorization")]
        assert ask(server.url, {"status": 200}, apiKeyEnv="SERVER_KEY")[0] == 0
        assert b"authorization: bearer abc" in [line.lower() for line in server.asked]
        server.shutdown()


def test_nobody_there():
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
    code, said = ask(url, {"status": 200}, attempts=2)
    assert code == 1
    assert "attempt 2 of 2" in said
