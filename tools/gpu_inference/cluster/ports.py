"""TCP ports that nobody else can take between choosing them and listening on them."""

from __future__ import annotations

import socket
from collections.abc import Iterable


class Ports:
    """Holds one free port of `host` for each name until `close` (or the end of the process).

    How: the socket is bound but never listens, and gets SO_REUSEADDR only after it was bound. Linux then gives the port
    to nobody who asks for any free port, yet lets a listener with SO_REUSEADDR (Go's and asyncio's default) bind it.
    """

    def __init__(self, names: Iterable[str], host: str = "127.0.0.1") -> None:
        self.host = host
        self._sockets = {name: _reserve(host) for name in names}

    def __getitem__(self, name: str) -> int:
        return int(self._sockets[name].getsockname()[1])

    def address(self, name: str) -> str:
        """ "<host>:<port>" """
        return f"{self.host}:{self[name]}"

    def close(self) -> None:
        for held in self._sockets.values():
            held.close()


def _reserve(host: str) -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.bind((host, 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held
