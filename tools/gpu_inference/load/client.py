"""The requests of a replay, by API: OpenAI completions (streamed), the KServe v2 inference protocol (Triton) and
TensorFlow Serving's.

Imported in the load process only: gevent's patches belong there. Every request has a connection of its own, so that
replicas added while the load runs get their share, and one that drains is not held by a kept-alive connection.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from geventhttpclient import HTTPClient

from gpu_inference.load.records import Record

CONNECT_TIMEOUT = 10.0
# Without a byte for this long a request counts as failed: queueing under overload takes seconds, not minutes.
READ_TIMEOUT = 120.0
# Token ids that every vocabulary has, none of control tokens. A random stretch is a prompt no prefix cache knows.
TOKEN_IDS = [str(i) for i in random.Random(0).choices(range(1000, 30000), k=65536)]


class RequestError(Exception):
    """An answer that is not what was asked for."""


def _prompt(tokens: int) -> str:
    start = random.randrange(len(TOKEN_IDS))
    ids = (
        (TOKEN_IDS + TOKEN_IDS)[start : start + tokens]
        if start + tokens > len(TOKEN_IDS)
        else TOKEN_IDS[start : start + tokens]
    )
    return ",".join(ids)


def completion_body(model: str, input_: int, output: int) -> str:
    """A request for exactly `output` tokens to a prompt of exactly `input_`; usage comes with the last chunk."""
    options = {
        "model": model,
        "max_tokens": output,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return f'{json.dumps(options)[:-1]}, "prompt": [{_prompt(input_)}]}}'


def _events(response: Any) -> Iterator[dict[str, Any]]:
    while line := response.readline(b"\n"):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield json.loads(data)
    raise RequestError("the stream ended early")


def _stream(response: Any, record: Record, began: float, asked: int) -> None:
    last, pieces, usage = None, 0, None
    for event in _events(response):
        if "error" in event:
            raise RequestError(f"error in the stream: {event['error']}"[:200])
        usage = event.get("usage") or usage
        if not any(choice.get("text") for choice in event.get("choices", ())):
            continue
        now = perf_counter()
        if last is None:
            record.ttft = now - began
        else:
            record.gaps.append(now - last)
        last, pieces = now, pieces + 1
    record.output = usage["completion_tokens"] if usage else pieces
    if record.output != asked:
        raise RequestError(f"fewer or more tokens than asked for ({'fewer' if record.output < asked else 'more'})")


def _request(base: str, path: str, body: str, read: Callable[[Any], None]) -> None:
    url = urlsplit(base)
    client = HTTPClient(
        url.hostname or "",
        url.port,
        ssl=url.scheme == "https",
        connection_timeout=CONNECT_TIMEOUT,
        network_timeout=READ_TIMEOUT,
    )
    try:
        response = client.post(
            url.path.rstrip("/") + path, body, headers={"Content-Type": "application/json", "Connection": "close"}
        )
        if response.status_code != 200:
            raise RequestError(f"HTTP {response.status_code}: {response.read()[:160].decode(errors='replace')}")
        read(response)
    finally:
        client.close()


def completion(base: str, model: str, input_: int, output: int, record: Record) -> None:
    """POST /v1/completions, streamed; fills ttft, gaps and output. Raises on anything but the full answer."""
    body = completion_body(model, input_, output)
    began = perf_counter()
    _request(base, "/v1/completions", body, lambda response: _stream(response, record, began, output))


def infer(base: str, model: str, input_: int, output: int, record: Record) -> None:
    """POST /v2/models/<model>/infer with a batch of `input_` texts in one tensor INPUT; no stream, so no TTFT."""
    texts = [f"document {i}" for i in range(input_)]
    body = json.dumps({"inputs": [{"name": "INPUT", "shape": [input_, 1], "datatype": "BYTES", "data": texts}]})

    def read(response: Any) -> None:
        if "outputs" not in json.loads(response.read()):
            raise RequestError("an answer without outputs")

    _request(base, f"/v2/models/{model}/infer", body, read)


def predict(base: str, model: str, input_: int, output: int, record: Record) -> None:
    """POST /v1/models/<model>:predict with `input_` instances, TensorFlow Serving's REST API; no stream."""

    def read(response: Any) -> None:
        if len(json.loads(response.read()).get("predictions", ())) != input_:
            raise RequestError("an answer without a prediction for each instance")

    _request(base, f"/v1/models/{model}:predict", json.dumps({"instances": [[1.0]] * input_}), read)


APIS: dict[str, Callable[[str, str, int, int, Record], None]] = {
    "openai": completion,
    "triton": infer,
    "tf-serving": predict,
}
