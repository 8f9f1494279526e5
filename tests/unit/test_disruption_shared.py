"""Workers of one test run share a cluster: it is made once, and ends with the last of them."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from disruption import shared
from disruption.shared import Shared


class Cluster:
    """Says what is done to it."""

    name = "x"

    def __init__(self) -> None:
        self.said: list[str] = []

    def up(self) -> None:
        self.said.append("up")

    def down(self) -> None:
        self.said.append("down")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(shared.tempfile, "gettempdir", lambda: str(tmp_path))
    return uuid.uuid4().hex


def test_who_comes_first_makes_it_and_ends_it_last(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first: Any = Cluster()
    second: Any = Cluster()
    monkeypatch.setattr(shared.KindCluster, "attach", lambda name: f"attached {name}")
    late, done = threading.Event(), threading.Event()

    def owner() -> None:
        with Shared(run).made_once(first) as cluster:
            assert cluster is first
            late.wait(5)
        done.set()

    thread = threading.Thread(target=owner)
    thread.start()
    while not first.said:
        time.sleep(0.01)
    with Shared(run).made_once(second) as cluster:
        assert cluster == "attached x"
        late.set()
        time.sleep(0.3)
        assert first.said == ["up"]
    assert done.wait(5)
    thread.join()
    assert (first.said, second.said) == (["up", "down"], [])


def test_a_test_that_must_be_alone_is(run: str) -> None:
    seen: list[str] = []

    def other() -> None:
        with Shared(run).turn(alone=True):
            seen.append("alone")

    with Shared(run).turn(alone=False), Shared(run).turn(alone=False):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        assert seen == []
    thread.join(5)
    assert seen == ["alone"]
