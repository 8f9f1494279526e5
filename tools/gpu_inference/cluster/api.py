"""A very small client of the Kubernetes API: JSON in, JSON out, credentials from a kubeconfig."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.cluster.direct import opener


class ApiError(Exception):
    """The API server answered with an error. code: HTTP status; message: the Status object's message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Api:
    """Requests as the user of a kubeconfig with inline client certificates (as embedded clusters write them)."""

    def __init__(self, kubeconfig: Path, timeout: float = 10.0) -> None:
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = cluster["server"]
        self.timeout = timeout
        context = ssl.create_default_context(cadata=_decode(cluster["certificate-authority-data"]))
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:  # created with mode 0600
            pem.write(_decode(user["client-certificate-data"]) + _decode(user["client-key-data"]))
            pem.flush()
            context.load_cert_chain(pem.name)
        self._opener = opener(context)

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """The parsed answer (text where it is not JSON). Raises ApiError, or OSError without a connection."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.server + path, data=data, method=method, headers={"Content-Type": content_type}
        )
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return _parse(answer.read())
        except urllib.error.HTTPError as error:
            status = _parse(error.read())
            raise ApiError(error.code, status["message"] if isinstance(status, dict) else str(status)) from None

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def patch(self, path: str, body: Any) -> Any:
        """A strategic merge patch."""
        return self.request("PATCH", path, body, "application/strategic-merge-patch+json")

    def create(self, path: str, body: Any) -> Any:
        """POST; an object that is already there is left as it is."""
        try:
            return self.request("POST", path, body)
        except ApiError as error:
            if error.code != 409:
                raise
            return None


def _decode(text: str) -> str:
    return base64.b64decode(text).decode()


def _parse(raw: bytes) -> Any:
    text = raw.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
