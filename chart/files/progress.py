"""Tells a server that hangs from one that is busy, without anything but Python's standard library.

Takes JSON: health and metrics (URLs), running (a gauge), progress (counters), state (a file), stallSeconds,
gapSeconds, timeoutSeconds. Exit 1 when `health` does not answer 200, or when at every call for stallSeconds requests
were running and none of the counters had moved. What cannot be known (no metrics, no such series, no place to remember
in) is no reason to fail. What was seen last is forgotten after a gap of more than gapSeconds, and with the process.
"""

import http.client
import json
import re
import sys
import threading
import time
import urllib.request
from pathlib import Path

# Never through a proxy: the server is in the same pod.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
WRONG = (OSError, ValueError, http.client.HTTPException)
SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?[ \t]+(\S+)", re.MULTILINE)


def get(url, timeout):
    """The text at a URL. Raises one of WRONG, also for a status that is no success."""
    with OPENER.open(url, timeout=timeout) as answer:
        return answer.read().decode(errors="replace")


def total(samples, name):
    """The sum of a series' samples; None without any."""
    values = [float(value) for found, value in samples if found == name]
    return sum(values) if values else None


def process():
    """Tells a container from the one before it, whose files in memory are still there: when its first process began."""
    try:
        return Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def recall(path):
    """What was seen last: {since, last, counters, process}, or nothing."""
    try:
        seen = json.loads(path.read_text())
        return seen if {"since", "last", "counters", "process"} <= seen.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def remember(path, seen):
    """False where there is no place for it."""
    try:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(seen))
        new.replace(path)
    except OSError:
        return False
    return True


def look(config, found):
    """Puts what the metrics say into `found`: running and counters. Leaves it empty where they say nothing."""
    try:
        samples = SAMPLE.findall(get(config["metrics"], config["timeoutSeconds"]))
        counters = {name: total(samples, name) for name in config["progress"]}
        found.update(running=total(samples, config["running"]), counters=counters)
    except WRONG:
        pass


def stalled(config, found, now):
    """For how many seconds requests have been running without progress; 0 where that is not known."""
    if not found:
        return 0
    running, counters = found["running"], found["counters"]
    known = running and any(value is not None for value in counters.values())
    now_seen = {"counters": counters if known else {}, "process": process()}
    state = Path(config["state"])
    seen = recall(state)
    still = known and all(seen.get(key) == value for key, value in now_seen.items())
    since = seen["since"] if still and 0 <= now - seen["last"] <= config["gapSeconds"] else now
    kept = remember(state, {**now_seen, "since": since, "last": now})
    return now - since if kept else 0


def main():
    config = json.loads(sys.argv[1])
    found = {}
    # Both at once: the probe has one time limit.
    metrics = threading.Thread(target=look, args=(config, found), daemon=True)
    metrics.start()
    try:
        get(config["health"], config["timeoutSeconds"])
    except WRONG as error:
        print(f"not healthy: {error!r}")
        return 1
    metrics.join(config["timeoutSeconds"])
    seconds = stalled(config, dict(found), time.monotonic())
    if seconds >= config["stallSeconds"]:
        print(f"requests are running, and no token has come for {seconds:.0f} s")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
