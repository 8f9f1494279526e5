"""Asks a model for one answer and checks it, without anything but Python's standard library.

Reads JSON, the first argument or CANARY of the environment: url, method, body (optional), expect {status | path and
equals, min, max}, attempts, timeoutSeconds, health (optional): {url, timeoutSeconds} of what answers 200 first, and
apiKeyEnv (optional): the variable with the key to send.
Exit 0 when an answer is as expected, 1 when none was after all attempts.
"""

import http.client
import json
import math
import os
import sys
import time
import urllib.error
import urllib.request

PAUSE_SECONDS = 5
# Never through a proxy: the server is in the same cluster, or in the same pod.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(canary):
    """Returns status and text of one answer. An HTTP error is an answer too; OSError or HTTPException without one."""
    body = canary.get("body")
    headers = {"content-type": "application/json"}
    if "apiKeyEnv" in canary:
        headers["authorization"] = f"Bearer {os.environ[canary['apiKeyEnv']]}"
    request = urllib.request.Request(
        canary["url"],
        data=None if body is None else json.dumps(body).encode(),
        headers=headers,
        method=canary["method"],
    )
    try:
        with OPENER.open(request, timeout=canary["timeoutSeconds"]) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def problem(expect, status, text):
    """What is wrong with an answer, or None."""
    if status != expect.get("status", 200):
        return f"status {status}: {text[:300]}"
    if "path" not in expect:
        return None
    try:
        value = json.loads(text)
        for key in expect["path"].split("."):
            value = value[int(key) if isinstance(value, list) else key]
    except (ValueError, KeyError, IndexError, TypeError):
        return f"no {expect['path']} in {text[:300]}"
    if "equals" in expect and value != expect["equals"]:
        return f"{expect['path']} is {value!r}, not {expect['equals']!r}"
    least, most = expect.get("min", -math.inf), expect.get("max", math.inf)
    if {"min", "max"} & expect.keys() and not (isinstance(value, (int, float)) and least <= value <= most):
        return f"{expect['path']} is {value!r}, not from {least} to {most}"
    return None


def unhealthy(health):
    """Why the server is not to be asked yet, or None."""
    try:
        OPENER.open(health["url"], timeout=health["timeoutSeconds"]).close()
    except (OSError, http.client.HTTPException) as error:
        return f"not healthy: {error!r}"
    return None


def main():
    canary = json.loads(sys.argv[1] if sys.argv[1:] else os.environ["CANARY"])
    if "health" in canary and (wrong := unhealthy(canary["health"])):
        print(wrong)
        return 1
    for attempt in range(1, canary["attempts"] + 1):
        start = time.monotonic()
        try:
            wrong = problem(canary["expect"], *ask(canary))
        except (OSError, http.client.HTTPException) as error:
            wrong = f"no answer: {error!r}"
        spent = time.monotonic() - start
        if wrong is None:
            print(f"{canary['method']} {canary['url']}: as expected, in {spent:.2f} s")
            return 0
        print(f"attempt {attempt} of {canary['attempts']}: {wrong}", flush=True)
        if attempt < canary["attempts"]:
            time.sleep(PAUSE_SECONDS)
    return 1


if __name__ == "__main__":
    sys.exit(main())
