"""Asks a model for one answer and checks it, without anything but Python's standard library.

Reads CANARY from the environment, JSON: url, method, body (optional), expect {status | path and equals}, attempts,
timeoutSeconds.
Exit 0 when an answer is as expected, 1 when none was after all attempts.
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request

PAUSE_SECONDS = 5


def ask(canary):
    """Returns status and text of one answer. An HTTP error is an answer too; OSError or HTTPException without one."""
    body = canary.get("body")
    request = urllib.request.Request(
        canary["url"],
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
        method=canary["method"],
    )
    try:
        with urllib.request.urlopen(request, timeout=canary["timeoutSeconds"]) as answer:
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
    return None if value == expect["equals"] else f"{expect['path']} is {value!r}, not {expect['equals']!r}"


def main():
    canary = json.loads(os.environ["CANARY"])
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
