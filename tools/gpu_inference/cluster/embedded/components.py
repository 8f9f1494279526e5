"""The processes of an embedded control plane: their command lines and how each tells that it is ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_inference.cluster import inventory, metrics
from gpu_inference.cluster.pki import Pki
from gpu_inference.cluster.ports import Ports
from gpu_inference.cluster.supervisor import Component

HERE = Path(__file__).parent
BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "prometheus", "kubectl")
PORTS = ("etcd", "etcd-peer", "kube-apiserver", "kwok", "prometheus", "adapter", "twin")


@dataclass(frozen=True)
class Options:
    """What a user chooses. sync_period, scrape_interval: seconds; rules: prometheus-adapter's, None: no adapter; crds:
    whether the API server knows the kinds of optional APIs."""

    name: str
    state_dir: Path
    binaries: dict[str, Path]
    cloud: str
    sync_period: float
    scrape_interval: float
    rules: Path | None
    twin: bool
    detached: bool
    crds: bool

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Options:
        paths = {"state_dir": Path(raw["state_dir"]), "rules": Path(raw["rules"]) if raw["rules"] else None}
        return cls(**{**raw, **paths, "binaries": {name: Path(path) for name, path in raw["binaries"].items()}})


def etcd(options: Options, ports: Ports, pki: Pki) -> Component:
    client, peer = f"https://{ports.address('etcd')}", f"http://{ports.address('etcd-peer')}"
    return Component(
        "etcd",
        _command(
            options,
            "etcd",
            name="default",
            data_dir=options.state_dir / "etcd",
            listen_client_urls=client,
            advertise_client_urls=client,
            listen_peer_urls=peer,
            initial_advertise_peer_urls=peer,
            initial_cluster=f"default={peer}",
            cert_file=pki.crt("etcd-server"),
            key_file=pki.key("etcd-server"),
            trusted_ca_file=pki.crt("ca"),
            client_cert_auth="true",
            unsafe_no_fsync="true",  # the state dies with the cluster
            log_level="warn",
        ),
    )


def apiserver(options: Options, ports: Ports, pki: Pki) -> Component:
    """Admission is Kubernetes' default set (PodSecurity in it), NodeRestriction as kubeadm has it, and the cloud's."""
    return Component(
        "kube-apiserver",
        _command(
            options,
            "kube-apiserver",
            etcd_servers=f"https://{ports.address('etcd')}",
            etcd_cafile=pki.crt("ca"),
            etcd_certfile=pki.crt("etcd-client"),
            etcd_keyfile=pki.key("etcd-client"),
            bind_address="127.0.0.1",
            advertise_address="127.0.0.1",
            secure_port=ports["kube-apiserver"],
            endpoint_reconciler_type="none",  # endpoints may not be loopback addresses
            service_cluster_ip_range="10.96.0.0/16",
            client_ca_file=pki.crt("ca"),
            tls_cert_file=pki.crt("apiserver"),
            tls_private_key_file=pki.key("apiserver"),
            authorization_mode="Node,RBAC",
            enable_admission_plugins=",".join(["NodeRestriction", *inventory.admission_plugins(options.cloud)]),
            allow_privileged="true",
            service_account_issuer="https://kubernetes.default.svc.cluster.local",
            service_account_key_file=pki.folder / "sa.pub",
            service_account_signing_key_file=pki.key("sa"),
            requestheader_client_ca_file=pki.crt("front-proxy-ca"),
            requestheader_allowed_names="front-proxy-client",
            requestheader_extra_headers_prefix="X-Remote-Extra-",
            requestheader_group_headers="X-Remote-Group",
            requestheader_username_headers="X-Remote-User",
            proxy_client_cert_file=pki.crt("front-proxy-client"),
            proxy_client_key_file=pki.key("front-proxy-client"),
        ),
        ready_url=f"https://{ports.address('kube-apiserver')}/readyz",
    )


def workers(options: Options, ports: Ports, pki: Pki) -> list[Component]:
    """Everything that talks to the API server."""
    server = f"https://{ports.address('kube-apiserver')}"

    def kubeconfig(user: str) -> Path:
        return pki.kubeconfig(user, server, pki.folder / f"{user}.kubeconfig")

    prometheus_url = f"http://{ports.address('prometheus')}"
    components = [
        Component(
            "kube-controller-manager",
            _command(
                options,
                "kube-controller-manager",
                kubeconfig=kubeconfig("kube-controller-manager"),
                leader_elect="false",
                secure_port=0,
                use_service_account_credentials="true",
                service_account_private_key_file=pki.key("sa"),
                root_ca_file=pki.crt("ca"),
                horizontal_pod_autoscaler_sync_period=f"{options.sync_period}s",
                kube_api_qps=100,  # five times the defaults: a fresh cluster is ready seconds earlier
                kube_api_burst=150,
            ),
        ),
        Component(
            "kube-scheduler",
            _command(
                options, "kube-scheduler", kubeconfig=kubeconfig("kube-scheduler"), leader_elect="false", secure_port=0
            ),
        ),
        Component("kwok", _kwok(options, ports, kubeconfig("kwok")), f"http://{ports.address('kwok')}/healthz"),
        metrics.prometheus(
            options.binaries["prometheus"],
            options.state_dir,
            ports.address("prometheus"),
            kubeconfig("prometheus"),
            options.scrape_interval,
            metrics.Target(ports.address("twin")),
        ),
    ]
    if options.rules:
        certificate = (pki.crt("adapter"), pki.key("adapter"), pki.crt("front-proxy-ca"))
        adapter = metrics.adapter(options.rules, prometheus_url, "127.0.0.1", ports["adapter"], *certificate)
        components.append(adapter)
    return components


def _command(options: Options, binary: str, **flags: object) -> list[str]:
    """The command line. `_` in a flag's name stands for `-`, `__` for `.`."""
    names = {name: name.replace("__", ".").replace("_", "-") for name in flags}
    return [str(options.binaries[binary]), *(f"--{names[name]}={value}" for name, value in flags.items())]


def _kwok(options: Options, ports: Ports, kubeconfig: Path) -> list[str]:
    command = _command(
        options,
        "kwok",
        kubeconfig=kubeconfig,
        manage_all_nodes="true",
        node_lease_duration_seconds=40,
        node_ip="10.0.0.1",
        cidr="10.244.0.0/16",
        server_address=ports.address("kwok"),
    )
    deletion = "delete-after-grace" if options.twin else "delete-at-once"
    return command + [f"--config={HERE / 'stages' / stage}.yaml" for stage in ("nodes", "pods", deletion)]
