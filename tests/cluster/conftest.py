"""Waiting, and what a cluster left behind."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.cluster import wait_for


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
