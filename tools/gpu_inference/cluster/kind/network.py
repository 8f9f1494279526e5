"""The pod network of a node image made here: each node routes to the pods of every other, as kind's own CNI does.

There are no network policies. kind's published image brings its own CNI and does without this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from gpu_inference.cluster.kind.config import POD_SUBNET

_UNIT = """\
[Unit]
Description=Routes to the pods of the other nodes
After=network.target
[Service]
Type=oneshot
ExecStart=/bin/sh /kind/pod-routes.sh
[Install]
WantedBy=multi-user.target
"""


def script(pod_range: str, others: Mapping[str, str]) -> str:
    """What a node runs, once: it writes the CNI configuration for its `pod_range`, and a unit that sets the routes
    (pod range -> node address) now and at every start of the node."""
    files = {
        "/kind/pod-routes.sh": "\n".join(_routes(others)) + "\n",
        "/etc/systemd/system/pod-routes.service": _UNIT,
        "/etc/cni/net.d/10-gpu-inference.conflist": json.dumps(_cni(pod_range)) + "\n",
    }
    lines = ["set -eu"]
    for path, content in files.items():
        lines += [f"cat >{path} <<'END'", content.rstrip("\n"), "END"]
    return "\n".join([*lines, "systemctl --quiet enable --now pod-routes.service", ""])


def _routes(others: Mapping[str, str]) -> Iterable[str]:
    yield "set -eu"
    for pod_range, address in others.items():
        yield f"ip route replace {pod_range} via {address}"
    # Only what leaves the cluster gets the node's address: a pod sees the address of the pod that calls it.
    rule = f"POSTROUTING -s {POD_SUBNET} ! -d {POD_SUBNET} -m addrtype ! --dst-type LOCAL -j MASQUERADE"
    yield f"iptables -t nat -C {rule} 2>/dev/null || iptables -t nat -A {rule}"


def _cni(pod_range: str) -> dict[str, object]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": pod_range}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "1.0.0", "name": "gpu-inference", "plugins": plugins}
