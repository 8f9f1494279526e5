"""The chart's schema in an editor: the YAML language server underlines a typo, and explains and completes a key."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.paths import SCHEMA, VALUES, cache_dir

VERSION = "2.0.0"
OURS = SCHEMA / "values.schema.json"
MODELINE = f"# yaml-language-server: $schema={OURS}\n"


class Server:
    """The language server's protocol over its standard streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.number = self.opened = 0
        capabilities = {"textDocument": {"publishDiagnostics": {}, "completion": {}, "hover": {}}}
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities})
        self.tell("initialized", {})

    def tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: Any) -> Any:
        self.number += 1
        self._send({"id": self.number, "method": method, "params": params})
        return next(message["result"] for message in self.messages() if message.get("id") == self.number)

    def problems(self, text: str) -> list[dict[str, Any]]:
        """Opens a text and waits for what is underlined in it."""
        self.opened += 1
        self.uri = f"file:///v{self.opened}.yaml"
        document = {"uri": self.uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        for message in self.messages():
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == self.uri:
                found: list[dict[str, Any]] = message["params"]["diagnostics"]
                return found
        raise AssertionError("the server has gone")

    def at(self, method: str, line: int, character: int) -> Any:
        place = {"line": line, "character": character}
        return self.ask(f"textDocument/{method}", {"textDocument": {"uri": self.uri}, "position": place})

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server says; what it asks is answered with nothing."""
        out = self.process.stdout
        assert out
        while header := out.readline():
            length = int(header.split(b":")[1])
            out.readline()
            message = json.loads(out.read(length))
            if "method" in message and "id" in message:
                items = message["params"].get("items", []) if isinstance(message.get("params"), dict) else []
                self._send({"id": message["id"], "result": [None] * len(items)})
            else:
                yield message

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    folder = cache_dir() / f"yaml-language-server-{VERSION}"
    binary = folder / "node_modules/yaml-language-server/bin/yaml-language-server"
    if not binary.exists():
        words = ["npm", "install", "--silent", "--prefix", str(folder), f"yaml-language-server@{VERSION}"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm cannot install yaml-language-server {VERSION}: {done.stderr[-200:]}")
    words = ["node", str(binary), "--stdio"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    yield Server(process)
    process.kill()
    process.wait()


@pytest.mark.parametrize("path", sorted(VALUES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_our_values_are_fine(server, path):
    text = path.read_text()
    first = next(line for line in text.splitlines() if "yaml-language-server" in line)
    schema = Path(path.parent, first.split("$schema=")[1]).resolve()
    assert schema == OURS
    assert server.problems(text.replace(first, MODELINE.strip())) == []


def test_a_typo_is_underlined(server):
    (problem,) = server.problems(MODELINE + "models:\n  a:\n    replicsa: 2\n")
    assert problem["range"]["start"] == {"line": 3, "character": 4}
    assert "replicsa" in problem["message"]


def test_a_key_is_explained_and_completed(server):
    server.problems(MODELINE + "models:\n  a:\n    capacity: spot\n    autosc\n")
    explained = json.dumps(server.at("hover", 3, 6))
    assert "Which nodes to use" in explained
    found = server.at("completion", 4, 10)
    labels = {item["label"] for item in (found["items"] if isinstance(found, dict) else found)}
    assert "autoscaling" in labels
