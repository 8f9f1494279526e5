"""The file system of a node image: a minimal Debian or Ubuntu, kind's own files, and the pinned binaries.

The steps are those of images/base/Dockerfile and pkg/build/nodeimage of kind v0.33.0.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gpu_inference.cluster.kind.engine import FILES
from gpu_inference.cluster.kind.image import plan
from gpu_inference.cluster.process import run_group
from gpu_inference.cluster.progress import Tick
from gpu_inference.errors import UserError

# Files of kind's module -> where they go.
_KIND_FILES = {
    "usr/local/bin/*": ("usr/local/bin", 0o755),
    "kind/bin/*": ("kind/bin", 0o755),
    "etc/crictl.yaml": ("etc", 0o644),
    "etc/containerd/*": ("etc/containerd", 0o644),
    "etc/default/*": ("etc/default", 0o644),
    "etc/sysctl.d/*": ("etc/sysctl.d", 0o644),
    "etc/systemd/system/*.s*": ("etc/systemd/system", 0o644),
    "etc/systemd/system/kubelet.service.d/*": ("etc/systemd/system/kubelet.service.d", 0o644),
}
# Units that make no sense in a container, and what takes up space.
_REMOVED = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)
_SERVICES = ("kubelet.service", "containerd.service", "undo-mount-hacks.service")
_CNI = ("bridge", "host-local", "loopback", "portmap", "ptp")


def debootstrap(root: Path, source: plan.Distribution, tick: Tick) -> None:
    """Installs the packages into the empty folder `root`. UserError when that fails."""
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(plan.PACKAGES)}"]
    command += [f"--components={','.join(source.components)}", source.suite, str(root), source.mirror]
    code, log = run_group(command, cwd=None, env={**_apt_proxies(), **os.environ}, tick=tick)
    if code != 0:
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        raise UserError(
            f"debootstrap failed: {' | '.join(lines[-2:])}",
            fix=f"check that {source.mirror} can be reached and that the disk has 3 GB free",
            exit_code=1,
        )


def configure(root: Path, kind_module: Path, binaries: Mapping[str, Path]) -> None:
    """Makes a kind node of the system in `root`."""
    files = kind_module / "images" / "base" / "files"
    for pattern, (folder, mode) in _KIND_FILES.items():
        for source in files.glob(pattern):
            if source.is_file():
                _copy(source, root / folder / source.name, mode)
    _remove(root)
    with (root / "etc/systemd/journald.conf").open("a", encoding="utf-8") as journald:
        journald.write("ReadKMsg=no\n")
    for folder in ("etc/kubernetes/manifests", "etc/cni/net.d", "kind/manifests"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    init = root / "sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/usr/lib/systemd/systemd")
    _chroot(root, "systemctl", "--quiet", "enable", *_SERVICES)
    _chroot(root, "systemctl", "--quiet", "mask", "systemd-binfmt.service")
    for folder, names in plan.ON_NODE.items():
        for name in names:
            _copy(binaries[name], root / folder / name, 0o755)
    for name in _CNI:
        _copy(root / "usr/lib/cni" / name, root / "opt/cni/bin" / name, 0o755)
    (root / "kind/version").write_text(plan.version(), encoding="utf-8")
    (root / "etc/containerd/cri-base.json").write_text(container_spec(binaries["ctr"]), encoding="utf-8")
    storage = (FILES / "node-storage.yaml").read_text(encoding="utf-8").replace("${image}", plan.LOCAL_PATH_IMAGE)
    (root / "kind/manifests/default-storage.yaml").write_text(storage, encoding="utf-8")


def container_spec(ctr: Path) -> str:
    """containerd's default container, with kind's hook that shows a machine's files, and without limits."""
    done = subprocess.run([ctr, "oci", "spec"], capture_output=True, text=True, check=True)
    spec = json.loads(done.stdout)
    hooks = spec.setdefault("hooks", {}).setdefault("createContainer", [])
    hooks.append({"path": "/kind/bin/mount-product-files.sh"})
    spec["process"].pop("rlimits", None)
    return json.dumps(spec)


def libraries(root: Path, programs: list[str]) -> set[str]:
    """Absolute paths in `root` of the shared libraries that the programs there load."""
    done = subprocess.run(["chroot", root, "ldd", *programs], capture_output=True, text=True, check=False)
    return set(re.findall(r"(?:=> |^\s)(/\S+) \(0x", done.stdout, re.MULTILINE))


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _remove(root: Path) -> None:
    for pattern in _REMOVED:
        for path in list(root.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _chroot(root: Path, *command: str) -> None:
    done = subprocess.run(["chroot", root, *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{' '.join(command)} failed in the node image: {done.stderr.strip()}", exit_code=1)


def _apt_proxies() -> dict[str, str]:
    """The proxies that apt is configured with, as variables: debootstrap does not read that configuration."""
    if not shutil.which("apt-config"):
        return {}
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    found = re.findall(r'^Acquire::(https?)::Proxy "([^"]+)";', done.stdout, re.MULTILINE | re.IGNORECASE)
    return {f"{scheme.lower()}_proxy": proxy for scheme, proxy in found}
