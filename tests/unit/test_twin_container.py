"""The twin in a container: the chart's own arguments start it, faults are switched, and the image runs by itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtimes.twin_client import InFlight, ask, free_port
from support.expected import specs
from support.matrix import Case
from support.render import render

from gpu_inference.errors import UserError
from gpu_inference.paths import ROOT, VALUES
from gpu_inference.twin import contract
from gpu_inference.twin.container import arguments, image, rootfs
from gpu_inference.twin.container.main import ENDLESS, resolved
from gpu_inference.twin.spec import server_spec
from gpu_inference.values.presets import load_presets

PRESETS = load_presets("runtimes")
NAMED = sorted(n for n, p in PRESETS.items() if p["command"] and p["command"][0] != "bash" and n in contract.known())
LAYERS = (VALUES / "runtimes.yaml",), (VALUES / "prod.yaml",)


def commands() -> Iterator[tuple[str, dict, list[str]]]:
    """(model, its resolved spec, command and arguments) of every server the chart renders that has a program's name."""
    for layers in LAYERS:
        models = specs(Case("twin", layers))
        for obj in render(layers=layers):
            if obj["kind"] not in ("Deployment", "StatefulSet"):
                continue
            container = obj["spec"]["template"]["spec"]["containers"][0]
            spec = models.get(obj["metadata"]["labels"].get("gpu-inference.io/model", ""))
            if spec and spec["runtime"] in NAMED:
                yield spec["runtime"], spec, [*container["command"], *container["args"]]


def test_the_charts_arguments_say_what_the_values_said() -> None:
    found = set()
    for runtime, spec, command in commands():
        back = resolved(command, {"TWIN_SERVED_NAME": spec["model"]["servedName"]})
        found.add(runtime)
        assert back["runtime"] == runtime
        assert back["model"]["servedName"] == spec["model"]["servedName"], command
        assert back["model"]["contextLength"] == spec["model"].get("contextLength", 8192)
        assert back["runtimePreset"]["ports"] == PRESETS[runtime]["ports"]
        told = arguments.takes(PRESETS[runtime], "drain.requestSeconds")
        assert back["drain"]["requestSeconds"] == (spec["drain"]["requestSeconds"] if told else ENDLESS)
    assert found >= {"vllm", "sglang", "triton", "tf-serving"}


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        ("vllm serve m --shutdown-timeout 20", 20),
        ("vllm serve m --shutdown-timeout 0", 0),
        ("vllm serve m", 0),
        ("tritonserver --model-repository=/m", 30),
        ("python3 -m sglang.launch_server --model-path m", ENDLESS),
    ],
)
def test_the_drain_flag_is_what_lets_requests_finish(command: str, seconds: float) -> None:
    assert server_spec(resolved(command.split(), {})).drain_seconds == seconds


def test_flags_nobody_wrote_are_told() -> None:
    told, unknown = arguments.read(PRESETS["vllm"], ["m", "--enforce-eager", "--max-model-len", "512"])
    assert told == {"model": {"reference": "m", "contextLength": 512}}
    assert unknown == ["--enforce-eager"]


def test_a_command_of_no_preset_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="no runtime preset starts something else"):
        resolved(["something", "else"], {})
    assert resolved([], {"TWIN_RUNTIME": "custom"})["runtime"] == "custom"


class Container:
    """A server started as in a container, on a port of this machine."""

    def __init__(self, program: list[str], **environment: str) -> None:
        self.port = free_port()
        env = {**os.environ, "TWIN_LOAD_SECONDS": "0", **environment}
        words = ["vllm", "serve", "m", "--port", str(self.port), "--served-model-name", "m", "--shutdown-timeout", "5"]
        self.process = subprocess.Popen([*program, *words], env=env, stdout=subprocess.PIPE, text=True)

    def wait(self) -> None:
        for _ in range(200):
            try:
                assert ask(self.port, "/health")[0] == 200
                return
            except OSError:
                assert self.process.poll() is None
                time.sleep(0.1)
        raise AssertionError("the server did not come up")

    def fault(self, words: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", f"/twin/faults/{words}")
        return connection.getresponse().status


@pytest.fixture
def server() -> Iterator[Container]:
    container = Container([sys.executable, "-m", "gpu_inference.twin.container.main"])
    try:
        container.wait()
        yield container
    finally:
        container.process.kill()
        container.process.communicate()


def test_a_hung_engine_is_healthy_and_makes_no_tokens(server: Container) -> None:
    body = {"model": "m", "prompt": "a", "max_tokens": 500, "ignore_eos": True, "stream": True}
    stream = InFlight(server.port, "/v1/completions", body)
    assert server.fault("hang") == 200
    time.sleep(0.2)
    before = stream.data
    time.sleep(0.5)
    assert (stream.alive, stream.data) == (True, before)
    assert ask(server.port, "/health")[0] == 200
    assert re.search(rb"^vllm:num_requests_running{.*} 1.0$", ask(server.port, "/metrics")[1], re.MULTILINE)


def test_readiness_flaps_and_stops(server: Container) -> None:
    assert server.fault("flap?seconds=0.3") == 200
    seen = {ask(server.port, "/health")[0] for _ in range(40) if not time.sleep(0.03)}
    assert seen == {200, 503}
    server.fault("none")
    assert {ask(server.port, "/health")[0] for _ in range(10) if not time.sleep(0.05)} == {200}


def test_a_crash_is_one(server: Container) -> None:
    with pytest.raises(OSError):
        server.fault("crash")
    assert server.process.wait(5) == 139


def test_an_unknown_fault_is_not_found(server: Container) -> None:
    assert server.fault("nothing-like-it") == 404


def test_a_model_that_never_loads_never_listens() -> None:
    container = Container([sys.executable, "-m", "gpu_inference.twin.container.main"], TWIN_FAULT="never-load")
    try:
        assert container.process.stdout is not None
        assert "loading m for inf s" in container.process.stdout.readline()
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError):
            ask(container.port, "/health")
    finally:
        container.process.kill()
        container.process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the image is made of a Linux machine's Python")
def test_the_image_runs_by_itself(tmp_path: Path) -> None:
    """Unpacked, and started with its own loader: nothing of this machine's Python is in sight."""
    archive, name = image.build(tmp_path)
    assert image.build(tmp_path) == (archive, name)
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        config = json.load(tar.extractfile(manifest[0]["Config"]))["config"]
        tar.extract(manifest[0]["Layers"][0], tmp_path, filter="data")
    root = tmp_path / "root"
    with tarfile.open(tmp_path / manifest[0]["Layers"][0]) as tar:
        tar.extractall(root, filter="tar")
    assert manifest[0]["RepoTags"] == [name, name + image.NEXT]
    assert config["User"] == str(image.USER)
    for runtime in NAMED:
        words = PRESETS[runtime]["command"]
        program = root / (words[0].lstrip("/") if "/" in words[0] else f"usr/local/bin/{words[0]}")
        assert program.exists(), runtime
    assert (root / "opt/twin/programs/sglang/launch_server.py").is_file()
    loader = next(iter(root.glob("lib*/ld-linux*")))
    python = [loader, "--library-path", root / rootfs.LIBRARIES.lstrip("/"), root / "usr/local/bin/python3"]
    paths = ":".join(f"{root}{path}" for path in rootfs.PYTHONPATH.split(":"))
    env = {"PYTHONPATH": paths, "PYTHONHOME": str(root / "usr/local")}
    container = Container([*map(str, python), "-c", START], **env)
    try:
        container.wait()
        assert json.loads(ask(container.port, "/v1/models")[1])["data"][0]["id"] == "m"
    finally:
        container.process.kill()
        said, _ = container.process.communicate()
    assert str(root) in said


START = """
import sys, gpu_inference
from gpu_inference.twin.container.main import main
print(gpu_inference.__file__, sys.prefix, flush=True)
sys.exit(main(sys.argv[1:]))
"""


def test_the_containerfile_makes_the_same_programs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "gpu_inference.twin.container.rootfs", tmp_path], check=True)
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert made > {name for name, _, _ in rootfs.programs(PRESETS)}
    assert {f"{rootfs.BASE}/chart/Chart.yaml", f"{rootfs.SITE}/aiohttp/__init__.py"} < made
    text = (ROOT / "ci/Containerfile.twin").read_text()
    assert f'PYTHONPATH="{rootfs.PYTHONPATH}"' in text
    assert f"USER {image.USER}" in text
