"""Waiting, and what a cluster left behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return value


@pytest.fixture(name="wait_for", scope="session")
def _wait_for() -> Callable[[Callable[[], Any], float, str], Any]:
    return wait_for


@pytest.fixture(scope="session")
def listens() -> Callable[[str], bool]:
    """Whether something listens at a URL's port."""

    def listens(url: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) == 0

    return listens
