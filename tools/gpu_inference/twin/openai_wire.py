"""The OpenAI API's bytes: requests read, answers and server-sent events written. Every answer says that it is
simulated."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass
from typing import Any

FINGERPRINT = "simulated-gpu-inference-twin"
CHARACTERS = 4  # a token, as English text is split by current tokenizers
TOKEN = " sim"  # the text of every generated token: four characters, so answers can be prompts of the same length
MESSAGE_TOKENS = 4  # what a chat template adds to a message
DEFAULT_COMPLETION = 16  # tokens, OpenAI's default of max_tokens for completions
# Lengths of answers that may stop by themselves: lognormal with the median (129) and 99th percentile (601) of the
# generated tokens in Azure's public conversation trace (AzureLLMInferenceTrace_conv, CC-BY-4.0; Splitwise, ISCA 2024).
STOP_MEDIAN, STOP_SIGMA = 129, math.log(601 / 129) / 2.326


class ApiError(Exception):
    """An error the API answers with: HTTP status, message, and vLLM's type and parameter."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        error = {"message": message, "type": kind, "param": param, "code": status}
        self.body = json.dumps({"error": error}).encode()


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, "BadRequestError", param)


@dataclass(slots=True)
class Wanted:
    """What a client asks for. `natural`: the length at which the answer would stop by itself, 0 when it may not."""

    chat: bool
    prompt: int
    max_tokens: int
    natural: int
    stream: bool
    include_usage: bool

    @property
    def output(self) -> int:
        return min(self.max_tokens, self.natural) if self.natural else self.max_tokens

    @property
    def reason(self) -> str:
        return "stop" if 0 < self.natural < self.max_tokens else "length"


def read_request(raw: bytes, chat: bool, served: str, context: int, number: int) -> Wanted:
    """Parse a request body; `served` is the only model there is, "" when any name will do; `number` seeds the natural
    length of requests without a seed. Raises ApiError as vLLM does."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise bad_request("There was an error parsing the body") from None
    if not isinstance(body, dict):
        raise bad_request("the body is not an object")
    model = body.get("model", served)
    if served and model != served:
        raise ApiError(404, f"The model `{model}` does not exist.", "NotFoundError", "model")
    if body.get("n", 1) != 1:
        raise bad_request("the simulated server answers one choice a request: n must be 1", "n")
    prompt = _chat_tokens(body.get("messages")) if chat else _prompt_tokens(body.get("prompt"))
    limit = _max_tokens(body, chat, context - prompt)
    if prompt + limit > context or limit < 1:
        asked, where = max(limit, 1), "messages" if chat else "prompt"
        raise bad_request(
            f"This model's maximum context length is {context} tokens. However, you requested {prompt + asked} tokens "
            f"({prompt} in the {where}, {asked} in the completion). "
            "Please reduce the length of the input or of the completion."
        )
    options = body.get("stream_options") or {}
    natural = 0
    if not body.get("ignore_eos"):
        draw = random.Random(body.get("seed") if body.get("seed") is not None else number)
        natural = max(1, round(draw.lognormvariate(math.log(STOP_MEDIAN), STOP_SIGMA)))
    stream = bool(body.get("stream"))
    return Wanted(chat, prompt, limit, natural, stream, bool(options.get("include_usage")))


def _max_tokens(body: dict[str, Any], chat: bool, left: int) -> int:
    value = body.get("max_completion_tokens") if chat else None
    value = body.get("max_tokens") if value is None else value
    if value is None:
        return left if chat else min(DEFAULT_COMPLETION, max(left, 1))
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise bad_request(f"max_tokens must be at least 1, got {value}.", "max_tokens")
    return value


def _text_tokens(text: str) -> int:
    return max(1, -(-len(text) // CHARACTERS))


def _prompt_tokens(prompt: Any) -> int:
    """A string, token ids, or a list of one of them."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], list | str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return _text_tokens(prompt)
    if isinstance(prompt, list) and prompt:
        if isinstance(prompt[0], list | str):
            raise bad_request("the simulated server takes one prompt a request", "prompt")
        return len(prompt)
    raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")


def _chat_tokens(messages: Any) -> int:
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a non-empty list", "messages")
    total = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        total += MESSAGE_TOKENS + (_text_tokens(content) if content else 0)
    return total


class Writer:
    """The answers to one request."""

    __slots__ = ("_created", "_id", "_model", "_wanted")

    def __init__(self, wanted: Wanted, identifier: str, model: str) -> None:
        self._wanted, self._model = wanted, model
        self._id = f"{'chatcmpl' if wanted.chat else 'cmpl'}-{identifier}"
        self._created = int(time.time())

    def opening(self) -> bytes:
        """The events before the first token: a chat's role."""
        return self._event({"delta": {"role": "assistant", "content": ""}}, None) if self._wanted.chat else b""

    def token(self) -> bytes:
        """The event of any token but the last: the same bytes each time, so it is built once a request."""
        return self._event(self._piece(TOKEN), None)

    def closing(self, reason: str, tokens: int, text: str = TOKEN) -> bytes:
        """The last token's event with the reason, the usage if asked for, and the end mark."""
        events = self._event(self._piece(text), reason)
        if self._wanted.include_usage:
            body = self._envelope("chat.completion.chunk" if self._wanted.chat else "text_completion")
            events += b"data: " + json.dumps(body | {"choices": [], "usage": self._usage(tokens)}).encode() + b"\n\n"
        return events + b"data: [DONE]\n\n"

    def whole(self, reason: str, tokens: int) -> bytes:
        """The answer to a request without stream."""
        text = TOKEN * tokens
        chat = self._wanted.chat
        piece = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, **piece, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        body = self._envelope("chat.completion" if chat else "text_completion")
        return json.dumps(body | {"choices": [choice], "usage": self._usage(tokens)}).encode()

    def _piece(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}} if self._wanted.chat else {"text": text}

    def _event(self, piece: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": 0, **piece, "logprobs": None, "finish_reason": reason}
        body = self._envelope("chat.completion.chunk" if self._wanted.chat else "text_completion")
        return b"data: " + json.dumps(body | {"choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"

    def _envelope(self, kind: str) -> dict[str, Any]:
        common = {"id": self._id, "object": kind, "created": self._created, "model": self._model}
        return common | {"system_fingerprint": FINGERPRINT}

    def _usage(self, tokens: int) -> dict[str, int]:
        prompt = self._wanted.prompt
        return {"prompt_tokens": prompt, "total_tokens": prompt + tokens, "completion_tokens": tokens}
