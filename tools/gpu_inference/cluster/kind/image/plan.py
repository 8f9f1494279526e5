"""What a node image consists of, and the name that changes with any of it."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_inference.cluster.binaries import table
from gpu_inference.cluster.kind.engine import FILES

# kind's own image of the embedded clusters' minor version, from the release notes of kind v0.33.0.
PUBLISHED = "docker.io/kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed"
# As in images/base/Dockerfile of kind v0.33.0, less what no test needs (nfs, iscsi, fuse-overlayfs), and with what that
# file builds itself (runc, CNI plugins). busybox is the shell of the volume provisioner's image.
PACKAGES = (
    "systemd", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount", "kmod", "libseccomp2",
    "e2fsprogs", "bash", "ca-certificates", "curl", "jq", "procps", "runc", "containernetworking-plugins",
    "busybox-static",
)  # fmt: skip
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
ON_NODE = {
    "usr/local/bin": ("containerd", "containerd-shim-runc-v2", "ctr"),
    "usr/bin": ("kubeadm", "kubelet", "kubectl"),
}
IN_IMAGES = (*CONTROL_PLANE, "coredns", "kube-proxy", "pause", "local-path-provisioner")
LOCAL_PATH_IMAGE = "localhost/gpu-inference/local-path-provisioner:v0.0.30"


def binaries() -> list[str]:
    """Every binary that goes into the image."""
    return [*(name for names in ON_NODE.values() for name in names), *IN_IMAGES]


def version() -> str:
    """The Kubernetes version of an image made here, "v1.36.3"."""
    return table()["kubelet"].version


@dataclass(frozen=True)
class Distribution:
    """Where the packages come from: the machine's own release and mirror."""

    suite: str
    mirror: str
    components: Sequence[str]


def distribution(root: Path = Path("/")) -> Distribution | None:
    """That of the machine under `root`; None where it is no Debian or Ubuntu."""
    try:
        release = (root / "etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return None
    suite = re.search(r"^VERSION_CODENAME=(\S+)$", release, re.MULTILINE)
    ubuntu = re.search(r"^ID=ubuntu$", release, re.MULTILINE)
    sources = [root / "etc/apt/sources.list", *sorted((root / "etc/apt/sources.list.d").glob("*"))]
    for path in sources:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        mirror = re.search(r"^(?:deb(?: \[[^\]]*\])? |URIs:\s*)(https?://\S+)", text, re.MULTILINE)
        if suite and mirror:
            return Distribution(suite[1], mirror[1], ("main", "universe") if ubuntu else ("main",))
    return None


def local_name(packages_from: Distribution) -> str:
    """The image's name: its tag is the version and a digest of everything that it is made from."""
    digest = hashlib.sha256("\0".join([packages_from.suite, *PACKAGES]).encode())
    for name in binaries():
        digest.update(table()[name].key.encode())
    digest.update(table()["kind"].key.encode())  # its files are part of the image
    for path in sorted([*Path(__file__).parent.glob("*.py"), *FILES.glob("node-*")]):
        digest.update(path.read_bytes())
    return f"localhost/gpu-inference/node:{version()}-{digest.hexdigest()[:12]}"


def needed_images(kubeadm: Path, containerd_config: str) -> dict[str, list[str]]:
    """binary -> names that kubeadm, and containerd for a sandbox, call its image."""
    done = subprocess.run(
        [kubeadm, "config", "images", "list", f"--kubernetes-version={version()}"],
        capture_output=True,
        text=True,
        check=True,
    )
    names: dict[str, list[str]] = {"local-path-provisioner": [LOCAL_PATH_IMAGE]}
    sandbox = re.findall(r'sandbox_image = "([^"]+)"', containerd_config)
    for image in [*done.stdout.split(), *sandbox]:
        binary = image.rpartition("/")[2].partition(":")[0]
        if image not in names.setdefault(binary, []):
            names[binary].append(image)
    return names
