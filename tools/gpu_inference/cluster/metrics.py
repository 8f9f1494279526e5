"""Metrics of a cluster of ours, both on the host: Prometheus, and the adapter that serves the external metrics API."""

from __future__ import annotations

import base64
import string
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.cluster.supervisor import Component

ADAPTER_SERVICE = "gpu-inference-metrics-adapter"
ADAPTER_NAMESPACE = "kube-system"
ADAPTER_NAME = f"{ADAPTER_SERVICE}.{ADAPTER_NAMESPACE}.svc"  # what its certificate is for
API_SERVICE = "v1beta1.external.metrics.k8s.io"
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"

_CONFIG = Path(__file__).with_name("prometheus.yaml")


@dataclass(frozen=True)
class Target:
    """Where pods are scraped, at their API proxy paths: "host:port", and the TLS settings where it speaks TLS."""

    address: str
    tls: dict[str, str] | None = None


def prometheus(
    binary: Path, state_dir: Path, address: str, kubeconfig: Path, interval: float, target: Target
) -> Component:
    """Prometheus on `address`, scraping every `interval` seconds; its configuration and data lie in `state_dir`."""
    transport = {"scheme": "https", "tls_config": target.tls} if target.tls else {"scheme": "http"}
    values = {
        "interval": milliseconds(interval),
        "kubeconfig": str(kubeconfig),
        "target": target.address,
        "transport": "".join(f"    {line}\n" for line in yaml.safe_dump(transport).splitlines()),
    }
    config = state_dir / "prometheus.yaml"
    # safe_: $1 and the like are Prometheus' own
    config.write_text(string.Template(_CONFIG.read_text(encoding="utf-8")).safe_substitute(values), encoding="utf-8")
    command = [
        str(binary),
        f"--config.file={config}",
        f"--storage.tsdb.path={state_dir / 'prometheus'}",
        f"--scrape.discovery-reload-interval={milliseconds(interval)}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    return Component("prometheus", command, ready_url=f"http://{address}/-/ready")


def adapter(
    rules: Path, prometheus_url: str, host: str, port: int, cert: Path, key: Path, client_ca: Path
) -> Component:
    """The adapter, for clients with a certificate of `client_ca`."""
    flags = {
        "rules": rules,
        "prometheus-url": prometheus_url,
        "host": host,
        "port": port,
        "cert": cert,
        "key": key,
        "client-ca": client_ca,
    }
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    return Component("adapter", [sys.executable, "-m", "gpu_inference.cluster.adapter", *arguments])


def service(port: int, spec: dict[str, Any]) -> dict[str, Any]:
    """The adapter's Service; `spec` says how it is reached."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": ADAPTER_SERVICE, "namespace": ADAPTER_NAMESPACE},
        "spec": {**spec, "ports": [{"name": "https", "port": port}]},
    }


def api_service(port: int, ca: bytes) -> dict[str, Any]:
    """The APIService of the external metrics API; `ca` is the adapter's authority, PEM."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API_SERVICE},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": ADAPTER_SERVICE, "namespace": ADAPTER_NAMESPACE, "port": port},
            "caBundle": base64.b64encode(ca).decode(),
        },
    }


def milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
