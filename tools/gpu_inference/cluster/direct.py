"""HTTP to loopback addresses, past any proxy that the environment names."""

from __future__ import annotations

import ssl
import urllib.request
from typing import Any


def opener(context: ssl.SSLContext | None = None) -> urllib.request.OpenerDirector:
    """Opens URLs without a proxy; `context` is for https."""
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)
