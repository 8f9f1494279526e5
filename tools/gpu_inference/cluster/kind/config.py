"""What kind is told: the cluster's nodes, network and the settings of kubeadm, kubelet and containerd."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

POD_SUBNET = "10.244.0.0/16"
_SYS_RESOURCE = 24  # CAP_SYS_RESOURCE, linux/capability.h


def cluster(
    name: str,
    image: str,
    workers: int,
    sync_period: float,
    published: bool,
    limits: bool | None = None,
) -> dict[str, Any]:
    """The `Cluster` object (kind.x-k8s.io/v1alpha4).

    sync_period: the HPA's, in seconds. published: whether `image` is kind's own, which brings a CNI. limits: whether
    processes may be given less of an OOM score (None: as this machine's root may).
    """
    kubelet = {"kind": "KubeletConfiguration", "failCgroupV1": False}
    controllers = {
        "kind": "ClusterConfiguration",
        "controllerManager": {
            "extraArgs": [{"name": "horizontal-pod-autoscaler-sync-period", "value": f"{sync_period:g}s"}]
        },
    }
    config: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": name,
        "networking": {"podSubnet": POD_SUBNET, "disableDefaultCNI": not published},
        "nodes": [{"role": role, "image": image} for role in ("control-plane", *["worker"] * workers)],
        "kubeadmConfigPatches": [yaml.safe_dump(patch) for patch in (kubelet, controllers)],
    }
    if not (may_raise_limits() if limits is None else limits):
        patch = '[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n'
        config["containerdConfigPatches"] = [patch]
    return config


def may_raise_limits(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process has CAP_SYS_RESOURCE, without which no OOM score goes down."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status.read_text(encoding="utf-8"), re.MULTILINE)
    return bool(found and int(found[1], 16) >> _SYS_RESOURCE & 1)
