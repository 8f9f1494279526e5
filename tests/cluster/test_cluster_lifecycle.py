"""Up and down, side by side, and every way a cluster's owner can end: nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.cluster.command import add_arguments, run
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.process import is_running
from gpu_inference.cluster.state import State, folder_of, load
from gpu_inference.errors import UserError

Wait = Callable[[Callable[[], Any], float, str], Any]

pytestmark = pytest.mark.usefixtures("cluster_binaries")

OWNER = """
import sys, time
from gpu_inference.cluster.embedded import EmbeddedCluster
with EmbeddedCluster(sys.argv[1], progress=lambda event: print(event, flush=True)):
    print("ready", flush=True)
    time.sleep(600)
"""


def processes(state: State) -> list[tuple[int, int]]:
    return [state.supervisor, *state.components.values()]


def mentioned(name: str) -> list[int]:
    """Processes whose command line holds the cluster's folder."""
    marker, found = str(folder_of(name)).encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_two_side_by_side_and_nothing_left(listens: Callable[[str], bool]) -> None:
    names = [f"side-{os.getpid()}-{letter}" for letter in "ab"]
    with EmbeddedCluster(names[0]) as one, EmbeddedCluster(names[1], cloud="aks") as two:
        states = [one.state, two.state]
        urls = {url for state in states for url in (state.api_url, state.prometheus_url)}
        assert len(urls) == 4 and all(listens(url) for url in urls)
        assert all(is_running(*process) for state in states for process in processes(state))
        one.kubectl("create", "namespace", "only-in-one")
        assert "only-in-one" not in two.kubectl("get", "namespaces")
        with pytest.raises(UserError, match="is running already"):
            EmbeddedCluster(names[0]).up()
        assert is_running(*one.state.supervisor), "the refused second one left the first alone"
    assert not any(is_running(*process) for state in states for process in processes(state))
    assert not any(listens(url) for url in urls)
    assert not any(folder_of(name).exists() for name in names)


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGINT, "ready"), (signal.SIGKILL, "ready"), (signal.SIGINT, "[3/4]"), (signal.SIGKILL, "[2/4]")],
    ids=["Ctrl-C", "killed", "Ctrl-C while it starts", "killed while it starts"],
)
def test_owner_ends_and_nothing_is_left(number: signal.Signals, when: str, wait_for: Wait) -> None:
    name = f"owned-{os.getpid()}"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, name], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    assert any(line.startswith(when) for line in owner.stdout), f"the owner never said {when}"
    assert mentioned(name)
    owner.send_signal(number)
    owner.wait(15)
    wait_for(lambda: not mentioned(name) and not folder_of(name).exists(), 10, "no process and no folder left")


def test_killed_supervisor_takes_its_components_along(wait_for: Wait) -> None:
    name = f"killed-{os.getpid()}"
    EmbeddedCluster(name, detached=True).up()
    state = load(folder_of(name))
    assert state
    os.kill(state.supervisor[0], signal.SIGKILL)
    wait_for(lambda: not any(is_running(*process) for process in processes(state)), 5, "no process left")
    with pytest.raises(UserError, match="no cluster named"):
        EmbeddedCluster.attach(name)
    EmbeddedCluster.remove(name)
    assert not folder_of(name).exists()


def test_command(capsys: pytest.CaptureFixture[str], wait_for: Wait) -> None:
    """up (no proxy is in its way) stays after its process, status and kubeconfig find it, down ends it."""
    import argparse

    name = f"cli-{os.getpid()}"

    def cli(*words: str) -> int:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        return run(parser.parse_args([*words, "--name", name]))

    script = "import sys; from gpu_inference.cli import main; sys.argv = ['gi', *sys.argv[1:]]; sys.exit(main())"
    up = [sys.executable, "-c", script, "cluster", "up", "--name", name, "--cloud", "eks"]
    proxied = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    done = subprocess.run(up, capture_output=True, text=True, timeout=120, check=False, env=proxied)
    assert done.returncode == 0, done.stderr
    assert str(folder_of(name) / "kubeconfig") in done.stdout
    again = subprocess.run(up, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1
    assert "is running already" in again.stderr and "cluster down" in again.stderr
    assert cli("status") == 0
    assert "kube-apiserver" in capsys.readouterr().out
    assert cli("kubeconfig") == 0
    assert capsys.readouterr().out.strip() == str(folder_of(name) / "kubeconfig")
    attached = EmbeddedCluster.attach(name)
    assert "h100-spot-0" in attached.kubectl("get", "nodes")
    os.kill(attached.state.components["kwok"][0], signal.SIGKILL)
    wait_for(lambda: cli("status") == 1, 5, "the dead part noticed")
    state = attached.state
    assert cli("down") == 0
    assert not any(is_running(*process) for process in processes(state))
    assert not folder_of(name).exists()
    with pytest.raises(UserError, match="no cluster named"):
        cli("down")
