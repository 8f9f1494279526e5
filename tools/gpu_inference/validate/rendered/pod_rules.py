"""Rules about pods: what `pod`, `container`, `volumes` and the pods in `extraObjects` bring in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from gpu_inference.validate.rendered.objects import Pod, lookup, probes
from gpu_inference.validate.rendered.release import Fault, Release
from gpu_inference.validate.rendered.restricted import Breach, breaches
from gpu_inference.values.tree import Path

_REFUSED = ': a namespace with Pod Security "restricted" refuses the pod'
_CONTEXT = "set its securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"
_VERSIONED = re.compile(r"(@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]*)$")


def _security(release: Release) -> Iterator[Fault]:
    for pod in release.pods:
        # What else a cluster needs may well be more than a server may have.
        severity = "warning" if release.origins.extra(pod.obj) else None
        lacking: dict[Path, list[Breach]] = {}
        for breach in breaches(pod.template):
            security = release.spec_of(pod.obj).get("security", {})
            if (
                breach.path[-1] == "hostPath"
                and security.get("allowHostPath")
                and not release.of_a_hatch(pod, breach.path)
            ):
                continue
            if breach.path[1] != "securityContext" and lookup(pod.template, breach.path) is None:
                lacking.setdefault(breach.path[:3], []).append(breach)
                continue
            message = f"{breach.what}{_REFUSED}"
            yield Fault("pod-security", pod.obj, (*pod.path, *breach.path), message, breach.fix, severity)
        for path, those in lacking.items():
            message = f"{'; '.join(breach.what for breach in those)}{_REFUSED}"
            yield Fault("pod-security", pod.obj, (*pod.path, *path), message, _CONTEXT, severity)


def _mounts(release: Release) -> Iterator[Fault]:
    for pod in release.pods:
        claims = pod.obj["spec"].get("volumeClaimTemplates") or () if pod.obj["kind"] == "StatefulSet" else ()
        volumes = {claim["metadata"]["name"] for claim in claims}
        volumes |= {volume["name"] for volume in pod.template["spec"].get("volumes") or ()}
        for path, container in pod.containers():
            for index, mount in enumerate(container.get("volumeMounts") or ()):
                if mount["name"] not in volumes:
                    message = f"{container['name']} mounts {mount['name']}, and the pod has no such volume"
                    at: Path = (*pod.path, *path, "volumeMounts", index, "name")
                    fix = f"use one of {', '.join(sorted(volumes))}" if volumes else "define the volume"
                    yield Fault("missing-volume", pod.obj, at, message, fix)


def _images(release: Release) -> Iterator[Fault]:
    for pod, path, container in _of_hatches(release):
        image = container.get("image")
        at = (*pod.path, *path)
        if not image:
            message, fix = f"{container['name']} has no image", "set image"
            yield Fault("container-image", pod.obj, at, message, fix)
        elif not _VERSIONED.search(image.rpartition("/")[2]):
            message = f"{container['name']}: {image} moves: what runs is not what was tested"
            fix = "name a version, or a digest"
            yield Fault("container-image", pod.obj, (*at, "image"), message, fix, "warning")


def _bounds(release: Release) -> Iterator[Fault]:
    """A container without a limit takes its memory from the server beside it, and the node."""
    for pod, path, container in _of_hatches(release):
        resources = container.get("resources") or {}
        said = {what: resources.get(what) or {} for what in ("requests", "limits")}
        missing = [f"{what}.memory" for what in said if "memory" not in {**said["limits"], **said[what]}]
        if missing:
            message = f"{container['name']} has no {' and no '.join(missing)}, so it can take what the server needs"
            fix = "set resources: {requests: {cpu: …, memory: …}, limits: {memory: …}}"
            yield Fault("container-bounds", pod.obj, (*pod.path, *path), message, fix, "warning")


def _devices(release: Release) -> Iterator[Fault]:
    for pod in release.pods:
        for path, container in pod.containers():
            resources = container.get("resources") or {}
            asked, most = (resources.get(what) or {} for what in ("requests", "limits"))
            for device in sorted(key for key in {*asked, *most} if "/" in key):
                if device in asked and str(asked[device]) != str(most.get(device)):
                    message = f"{container['name']} requests {asked[device]} of {device}, and its limit is "
                    at: Path = (*pod.path, *path, "resources", "requests", device)
                    fix = "make them equal: Kubernetes accepts nothing else of a device"
                    yield Fault("device-amount", pod.obj, at, f"{message}{most.get(device, 'not set')}", fix)


def _ports(release: Release) -> Iterator[Fault]:
    for pod in release.pods:
        for path, container in pod.containers():
            names = {port.get("name") for port in container.get("ports") or ()}
            for where, handler in probes(container):
                for action in ("httpGet", "tcpSocket"):
                    port = (handler.get(action) or {}).get("port")
                    if isinstance(port, str) and not port.isdigit() and port not in names:
                        message = f"asks port {port} of {container['name']}, which has no port of this name"
                        known = ", ".join(sorted(filter(None, names)))
                        fix = f"use one of {known}, or a number" if known else "use a number, or name the port in ports"
                        yield Fault("named-port", pod.obj, (*pod.path, *path, *where, action, "port"), message, fix)


def _names(release: Release) -> Iterator[Fault]:
    """Init containers and containers share their names."""
    for pod in release.pods:
        seen: dict[str, Path] = {}
        for path, container in pod.containers():
            first = seen.setdefault(container["name"], path)
            if first != path:
                mine = path if release.of_a_hatch(pod, path) else first
                message = f"the pod has a second container called {container['name']}"
                yield Fault("container-name", pod.obj, (*pod.path, *mine, "name"), message, "use another name")


def _of_hatches(release: Release) -> Iterator[tuple[Pod, Path, dict]]:
    """(pod, path, container) of containers that were written as they are; of the server, where that is its image."""
    for pod in release.pods:
        for path, container in pod.containers():
            server = path[1:] == ("containers", 0) and not release.origins.extra(pod.obj)
            if not server and release.of_a_hatch(pod, path):
                yield pod, path, container


RULES: tuple[Callable[[Release], Iterator[Fault]], ...] = (
    _security,
    _mounts,
    _images,
    _bounds,
    _devices,
    _ports,
    _names,
)
