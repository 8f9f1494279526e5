"""The few figures the report takes from Prometheus."""

from __future__ import annotations

import json
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

STEP = 2  # s


def history(url: str, query: str, start: float, end: float) -> list[tuple[float, float]]:
    """(Unix time, value) of the first series of a range query; empty where there is none."""
    words = urlencode({"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": STEP})
    try:
        with urlopen(f"{url}/api/v1/query_range?{words}", timeout=10) as response:
            found = json.load(response)["data"]["result"]
    except (URLError, OSError, ValueError, KeyError):
        return []
    return [(float(at), float(value)) for at, value in found[0]["values"]] if found else []
