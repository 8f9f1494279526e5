"""A small Hugging Face Hub: the API's repository, tree and files, with the failures a download has to survive."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has and does. Files are path -> bytes, of which large ones are known by their sha256."""

    files: dict[str, bytes]
    large: int = 100
    page: int = 1000
    # Answered once, to the next request for a path: (status, headers).
    refusals: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # bytes after which the connection ends, once each
    lies: dict[str, int] = field(default_factory=dict)  # how often another content is sent
    ranges: bool = True
    elsewhere: str = ""  # files are on another host
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # (path, Range, Authorization)
    url: str = ""

    def entry(self, path: str) -> dict[str, object]:
        data = self.files[path]
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": git}
        if len(data) >= self.large:
            pointer = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entry |= {"oid": "0" * 40, "lfs": pointer}
        return entry

    def asked(self, word: str) -> list[tuple[str, str, str]]:
        return [request for request in self.requests if word in request[0]]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        hub, (path, _, query) = self.hub, self.path.partition("?")
        hub.requests.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        for word, queue in hub.refusals.items():
            if word in path and queue:
                status, headers = queue.pop(0)
                return self.send(status, b"{}", **headers)
        if path == "/api/models/org/name/revision/main":
            return self.send(200, json.dumps({"sha": COMMIT}).encode())
        if path == f"/api/models/org/name/tree/{COMMIT}":
            first = int(query.partition("cursor=")[2] or 0)
            entries = [{"type": "directory", "path": "d", "oid": "", "size": 0}, *map(hub.entry, hub.files)]
            body = json.dumps(entries[first : first + hub.page]).encode()
            following = first + hub.page
            link = (
                f'<{hub.url}{path}?recursive=true&cursor={following}>; rel="next"' if following < len(entries) else ""
            )
            return self.send(200, body, Link=link)
        if path.startswith(f"/org/name/resolve/{COMMIT}/"):
            if hub.elsewhere:
                return self.send(302, Location=f"{hub.elsewhere}{path}")
            return self.file(unquote(path.removeprefix(f"/org/name/resolve/{COMMIT}/")))
        return self.send(404, b"{}", X_Error_Code="RevisionNotFound" if "revision" in path else "EntryNotFound")

    def file(self, path: str) -> None:
        hub, data = self.hub, self.hub.files[path]
        if hub.lies.get(path, 0) > 0:
            hub.lies[path] -= 1
            data = bytes(len(data))
        first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if "Range" in self.headers else 0
        first = first if hub.ranges else 0
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        end = len(data)
        if hub.cuts.get(path):
            end = first + hub.cuts[path].pop(0)
        self.wfile.write(data[first:end])


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on a free port of this machine."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield hub
        server.shutdown()
