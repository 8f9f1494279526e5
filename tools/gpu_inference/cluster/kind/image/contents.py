"""The images that the node's containerd has from the start: the control plane's, kube-proxy, coredns, volumes."""

from __future__ import annotations

from pathlib import Path

from gpu_inference.cluster.kind.image import archive, rootfs


def image(binary: str, names: list[str], path: Path, root: Path) -> archive.Image:
    """The image of one binary; what else it needs is taken from the node's own file system in `root`."""
    place = {"coredns": "coredns", "pause": "pause"}.get(binary, f"usr/local/bin/{binary}")
    files, links, folders = {place: path}, {}, []
    if binary == "local-path-provisioner":
        files["bin/busybox"] = root / "bin/busybox"
        links = {f"bin/{applet}": "busybox" for applet in ("sh", "mkdir", "rm")}
    elif binary == "kube-proxy":
        more, links = _packet_filters(root)
        files |= more
        folders = ["run"]
    return archive.Image(names, [f"/{place}"], files, links, folders)


def _packet_filters(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """iptables, nft and conntrack, with every extension: without its library, a rule of an extension is not written,
    and a Service with two endpoints has none."""
    extensions = sorted(root.glob("usr/lib/*/xtables/*.so"))
    programs = [f"/usr/sbin/{name}" for name in ("xtables-legacy-multi", "xtables-nft-multi", "nft", "conntrack")]
    inside = [f"/{path.relative_to(root)}" for path in extensions if not path.is_symlink()]
    copied = {*programs, *inside, *rootfs.libraries(root, [*programs, *inside])}
    files = {path.lstrip("/"): (root / path.lstrip("/")).resolve() for path in copied}
    links = {str(path.relative_to(root)): str(path.readlink()) for path in extensions if path.is_symlink()}
    for family in ("iptables", "ip6tables"):
        for program in (family, f"{family}-save", f"{family}-restore"):
            links[f"usr/sbin/{program}"] = "xtables-legacy-multi"
    return files, links
