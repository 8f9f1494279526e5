"""Reads an API server through the Kubernetes client, with whatever credentials a kubeconfig has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from gpu_inference.errors import UserError

_SECONDS = 60


def reader(kubeconfig: Path) -> Callable[[str], Any]:
    """A function from a path of the API to the parsed answer: None for what is not served; LookupError for what may not
    be read; UserError where the kubeconfig or the cluster does not work."""
    try:
        api = config.new_client_from_config(str(kubeconfig))
    except (config.ConfigException, OSError) as error:
        raise UserError(f"cannot use {kubeconfig}: {error}", fix="set KUBECONFIG or give --kubeconfig FILE") from None

    def get(path: str) -> Any:
        accept = {"Accept": "application/json"}
        method, url, headers, *_ = api.param_serialize("GET", path, header_params=accept, auth_settings=["BearerToken"])
        try:
            answer = api.call_api(method, url, headers, _request_timeout=_SECONDS)
            body = answer.read()
        except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
            message = f"cannot reach the cluster of {kubeconfig}: {error}"
            raise UserError(message, fix="check the current context and that the cluster runs", exit_code=1) from None
        if answer.status == 404:
            return None
        if answer.status == 403:
            raise LookupError(f"the credentials may not read {path.partition('?')[0]}")
        if answer.status != 200:
            raise UserError(f"{path}: {answer.status} {answer.reason}", exit_code=1)
        return json.loads(body)

    return get
