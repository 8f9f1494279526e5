"""The supervisor of an embedded cluster: `python -m gpu_inference.cluster.embedded.supervisor`."""

from __future__ import annotations

import ssl
import sys

from gpu_inference.cluster import inventory, metrics
from gpu_inference.cluster.bootstrap import Bootstrap, Created, optional_apis
from gpu_inference.cluster.embedded import components
from gpu_inference.cluster.embedded.components import Options
from gpu_inference.cluster.pki import Pki
from gpu_inference.cluster.ports import Ports
from gpu_inference.cluster.progress import step
from gpu_inference.cluster.state import State
from gpu_inference.cluster.supervisor import Supervisor, main, me, report

_STEPS = ("start etcd", "start kube-apiserver", "start controllers, scheduler, nodes and metrics", "wait for the nodes")


class EmbeddedSupervisor(Supervisor):
    """etcd, then the API server, then what talks to it."""

    provider = "embedded"

    def __init__(self, options: Options) -> None:
        super().__init__(options.state_dir, options.detached)
        self.options = options

    def _up(self) -> State:
        options = self.options
        ports = Ports(components.PORTS)
        pki = Pki(options.state_dir / "pki", served=[metrics.ADAPTER_NAME])
        server = f"https://{ports.address('kube-apiserver')}"
        kubeconfig = pki.kubeconfig("admin", server, options.state_dir / "kubeconfig")
        context = ssl.create_default_context(cafile=str(pki.crt("ca")))
        with step(report, _STEPS[0], 1, len(_STEPS)):
            self._start(components.etcd(options, ports, pki))
        with step(report, _STEPS[1], 2, len(_STEPS)):
            self._ready(self._start(components.apiserver(options, ports, pki)), context)
        cluster = Bootstrap(kubeconfig, self._objects(ports, pki), serves_metrics=bool(options.rules))
        with step(report, _STEPS[2], 3, len(_STEPS)):
            started = [self._start(component) for component in components.workers(options, ports, pki)]
            self._wait(cluster.create, "kube-apiserver")
            for component in started:
                self._ready(component, context)
        with step(report, _STEPS[3], 4, len(_STEPS)):
            self._wait(cluster.pending, "the cluster")
        self._ports = ports  # held as long as the cluster lives
        return State(
            name=options.name,
            provider=self.provider,
            supervisor=me(),
            components=self.processes(),
            kubeconfig=str(kubeconfig),
            api_url=server,
            prometheus_url=f"http://{ports.address('prometheus')}",
            twin_port=ports["twin"],
            kubectl=str(options.binaries["kubectl"]),
            cloud=options.cloud,
            detached=options.detached,
        )

    def _objects(self, ports: Ports, pki: Pki) -> list[Created]:
        """The nodes of the cloud, optional APIs, and the external metrics API."""
        objects: list[Created] = [("/api/v1/nodes", node) for node in inventory.nodes(self.options.cloud)]
        if self.options.crds:
            objects += optional_apis()
        if self.options.rules:
            # An aggregated API on the host: endpoints may not be loopback addresses, an external name may be.
            service = metrics.service(ports["adapter"], {"type": "ExternalName", "externalName": "localhost"})
            ca = pki.crt("ca").read_bytes()
            objects.append((f"/api/v1/namespaces/{metrics.ADAPTER_NAMESPACE}/services", service))
            objects.append((metrics.API_SERVICES, metrics.api_service(ports["adapter"], ca)))
        return objects


if __name__ == "__main__":
    sys.exit(main(lambda raw: EmbeddedSupervisor(Options.from_json(raw))))
