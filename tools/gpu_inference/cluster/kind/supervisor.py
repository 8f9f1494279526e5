"""The supervisor of a kind cluster: `python -m gpu_inference.cluster.kind.supervisor`."""

from __future__ import annotations

import base64
import contextlib
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.cluster import metrics
from gpu_inference.cluster.api import Api, ApiError
from gpu_inference.cluster.bootstrap import Bootstrap, Created, optional_apis
from gpu_inference.cluster.kind import config, network
from gpu_inference.cluster.kind.control import Kind, podman_lock
from gpu_inference.cluster.kind.engine import Engine
from gpu_inference.cluster.kind.nodes import Workers
from gpu_inference.cluster.pki import Pki
from gpu_inference.cluster.ports import Ports
from gpu_inference.cluster.progress import step
from gpu_inference.cluster.state import State
from gpu_inference.cluster.supervisor import Supervisor, main, me, report

_STEPS = ("create the nodes with kind", "network, labels and GPUs", "metrics", "wait for the nodes")
_FRONT_PROXY_CA = "/etc/kubernetes/pki/front-proxy-ca.crt"  # kubeadm's
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


@dataclass(frozen=True)
class Options:
    """What a user chooses (see KindCluster), and what was found for it."""

    name: str
    state_dir: Path
    detached: bool
    binaries: dict[str, Path]
    engine: Engine
    image: str
    published: bool
    cloud: str
    workers: int
    sync_period: float
    scrape_interval: float
    rules: Path | None
    crds: bool

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Options:
        engine = raw["engine"]
        changed = {
            "state_dir": Path(raw["state_dir"]),
            "binaries": {name: Path(path) for name, path in raw["binaries"].items()},
            "engine": Engine(engine["name"], Path(engine["path"]), engine["env"]),
            "rules": Path(raw["rules"]) if raw["rules"] else None,
        }
        return cls(**{**raw, **changed})


class KindSupervisor(Supervisor):
    """The nodes are containers: they outlive a supervisor that was killed, until `up` or `down` of that name."""

    provider = "kind"
    ready_timeout_seconds = 240.0

    def __init__(self, options: Options) -> None:
        super().__init__(options.state_dir, options.detached)
        self.options = options
        self.kind = Kind.of(options.engine, options.binaries["kind"], options.name, options.state_dir)
        self.workers: Workers | None = None

    def _up(self) -> State:
        options, kind = self.options, self.kind
        kind.delete()  # what a killed one of this name has left
        with step(report, _STEPS[0], 1, len(_STEPS)) as tick:
            path = options.state_dir / "kind.yaml"
            content = config.cluster(
                kind.name, options.image, options.workers, options.sync_period, published=options.published
            )
            path.write_text(yaml.safe_dump(content), encoding="utf-8")
            with podman_lock():
                kind.create(path, tick)
        api = Api(kind.kubeconfig)
        self.workers = Workers(api, options.cloud)
        with step(report, _STEPS[1], 2, len(_STEPS)):
            if not options.published:
                self._connect(api)
            self._wait(self._dressed, "the nodes")
        with step(report, _STEPS[2], 3, len(_STEPS)):
            objects, prometheus_url = self._metrics(api)
            if options.crds:
                objects += optional_apis()
            cluster = Bootstrap(kind.kubeconfig, objects, serves_metrics=bool(options.rules))
            self._wait(cluster.create, "kube-apiserver")
        with step(report, _STEPS[3], 4, len(_STEPS)):
            self._wait(cluster.pending, "the cluster")
            self._wait(lambda: _unavailable(api), "the cluster's own pods")
        return State(
            name=options.name,
            provider=self.provider,
            supervisor=me(),
            components=self.processes(),
            kubeconfig=str(kind.kubeconfig),
            api_url=api.server,
            prometheus_url=prometheus_url,
            twin_port=0,
            kubectl=str(options.binaries["kubectl"]),
            cloud=options.cloud,
            detached=options.detached,
        )

    def _connect(self, api: Api) -> None:
        """The pod network, for an image without one."""
        self._wait(lambda: _without_range(api), "the nodes")
        ranges = {node["metadata"]["name"]: (node["spec"]["podCIDR"], _address(node)) for node in _nodes(api)}
        for name, (own, _) in ranges.items():
            others = {pods: address for other, (pods, address) in ranges.items() if other != name}
            self.kind.exec(name, network.script(own, others))

    def _dressed(self) -> str:
        assert self.workers
        try:
            self.workers.dress()
        except (ApiError, OSError) as error:
            return str(error)
        return ""

    def _metrics(self, api: Api) -> tuple[list[Created], str]:
        """Starts Prometheus and the adapter; returns the objects of the external metrics API, and Prometheus' URL."""
        options, kind = self.options, self.kind
        gateway = kind.gateway()
        ports, outside = Ports(["prometheus"]), Ports(["adapter"], host=gateway)
        self._ports = (ports, outside)  # held as long as the cluster lives
        target = metrics.Target(api.server.removeprefix("https://"), _tls(kind.kubeconfig, options.state_dir))
        prometheus = metrics.prometheus(
            options.binaries["prometheus"], options.state_dir, ports.address("prometheus"), kind.kubeconfig,
            options.scrape_interval, target,
        )  # fmt: skip
        self._ready(self._start(prometheus), ssl.create_default_context())
        url = f"http://{ports.address('prometheus')}"
        if not options.rules:
            return [], url
        pki = Pki(options.state_dir / "pki", served=[metrics.ADAPTER_NAME])
        clients = options.state_dir / "front-proxy-ca.crt"
        clients.write_text(kind.read(_FRONT_PROXY_CA), encoding="utf-8")
        port = outside["adapter"]
        certificate = (pki.crt("adapter"), pki.key("adapter"), clients)
        self._start(metrics.adapter(options.rules, url, gateway, port, *certificate))
        namespace = metrics.ADAPTER_NAMESPACE
        return [
            (f"/api/v1/namespaces/{namespace}/services", metrics.service(port, {"type": "ClusterIP"})),
            (_SLICES.format(namespace=namespace), _endpoint(gateway, port)),
            (metrics.API_SERVICES, metrics.api_service(port, pki.crt("ca").read_bytes())),
        ], url

    def _watch(self) -> None:
        assert self.workers
        with contextlib.suppress(ApiError, OSError, ValueError):  # an API server that is down; nodes that come and go
            self.workers.advertise()

    def _down(self) -> None:
        super()._down()
        self.kind.delete()


def _nodes(api: Api) -> list[dict[str, Any]]:
    return list(api.get("/api/v1/nodes")["items"])


def _without_range(api: Api) -> str:
    missing = [node["metadata"]["name"] for node in _nodes(api) if "podCIDR" not in node["spec"]]
    return f"{missing[0]} has no range of pod addresses" if missing else ""


def _address(node: dict[str, Any]) -> str:
    return next(entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP")


def _unavailable(api: Api) -> str:
    """A Deployment of the cluster's own that does not run yet, "" when all do."""
    try:
        for deployment in api.get("/apis/apps/v1/deployments")["items"]:
            if deployment["status"].get("availableReplicas", 0) < deployment["spec"]["replicas"]:
                return f"{deployment['metadata']['name']} is not available"
    except (ApiError, OSError) as error:
        return str(error)
    return ""


def _endpoint(address: str, port: int) -> dict[str, Any]:
    """The host, as the one endpoint of the adapter's Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": metrics.ADAPTER_SERVICE,
            "labels": {
                "kubernetes.io/service-name": metrics.ADAPTER_SERVICE,
                "endpointslice.kubernetes.io/managed-by": "gpu-inference",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


def _tls(kubeconfig: Path, folder: Path) -> dict[str, str]:
    """The kubeconfig's credentials as files (private), in Prometheus' words."""
    content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    entries = {**content["clusters"][0]["cluster"], **content["users"][0]["user"]}
    written = {}
    for option, entry in (
        ("ca_file", "certificate-authority-data"),
        ("cert_file", "client-certificate-data"),
        ("key_file", "client-key-data"),
    ):
        path = folder / f"prometheus-{option}.pem"
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(entries[entry]))
        written[option] = str(path)
    return written


if __name__ == "__main__":
    sys.exit(main(lambda raw: KindSupervisor(Options.from_json(raw))))
