"""Pod Security Standards, profile "restricted", written from the standard's own list.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (v1.36). The API server's admission plugin stops at
the namespace's door; this one names every breach of every pod at once, before there is a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpu_inference.validate.rendered.objects import probes
from gpu_inference.values.tree import Path

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
    "image",  # since Kubernetes 1.33: pod-security-admission, policy/check_restrictedVolumes.go
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SAFE_PROFILES = {"RuntimeDefault", "Localhost"}
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Breach:
    """What breaks the profile, at a path of the pod template, and what to write there."""

    path: Path
    what: str
    fix: str = "remove it"


def violations(pod: dict[str, Any]) -> list[str]:
    """What keeps a pod (or pod template: {metadata, spec}) out of a restricted namespace; empty if nothing does."""
    return [breach.what for breach in breaches(pod)]


def breaches(pod: dict[str, Any]) -> Iterator[Breach]:
    """The same with the places."""
    spec = pod["spec"]
    yield from _pod_wide(pod)
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(group) or ()):
            where: Path = ("spec", group, index)
            for breach in _container(container, spec.get("securityContext") or {}):
                what = f"{group[:-1]} {container['name']}: {breach.what}"
                yield Breach((*where, *breach.path), what, breach.fix)


def _pod_wide(pod: dict[str, Any]) -> Iterator[Breach]:
    spec = pod["spec"]
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield Breach(("spec", key), f"{key} is true")
    for index, volume in enumerate(spec.get("volumes") or ()):
        for kind in sorted(set(volume) - {"name"} - VOLUMES):
            fix = "use a claim, or another volume that is not the node's own"
            yield Breach(("spec", "volumes", index, kind), f"volume {volume['name']} is a {kind}", fix)
    context = spec.get("securityContext") or {}
    for index, sysctl in enumerate(context.get("sysctls") or ()):
        if sysctl["name"] not in SYSCTLS:
            yield Breach(("spec", "securityContext", "sysctls", index), f"sysctl {sysctl['name']}")
    for key, value in ((pod.get("metadata") or {}).get("annotations") or {}).items():
        if key.startswith(APPARMOR_ANNOTATION) and value != "runtime/default" and not value.startswith("localhost/"):
            yield Breach(("metadata", "annotations", key), f"annotation {key}: {value}")
    for breach in _contexts(context):
        yield Breach(("spec", "securityContext", *breach.path), f"pod: {breach.what}", breach.fix)


def _contexts(context: dict[str, Any]) -> Iterator[Breach]:
    """The fields a pod's and a container's security context share."""
    if context.get("runAsNonRoot") is False:
        yield Breach(("runAsNonRoot",), "runAsNonRoot is false", "set it to true")
    if context.get("runAsUser") == 0:
        yield Breach(("runAsUser",), "runAsUser is 0", "use another user, such as 1000")
    for key in ("seccompProfile", "appArmorProfile"):
        if key in context and (context[key] or {}).get("type") not in SAFE_PROFILES:
            yield Breach((key,), f"{key} is {(context[key] or {}).get('type')}", "set its type to RuntimeDefault")
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES:
        yield Breach(("seLinuxOptions", "type"), f"SELinux type {selinux['type']}")
    for key in ("user", "role"):
        if selinux.get(key):
            yield Breach(("seLinuxOptions", key), f"SELinux {key} is set")
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield Breach(("windowsOptions", "hostProcess"), "hostProcess is true")


def _container(container: dict[str, Any], pod_context: dict[str, Any]) -> Iterator[Breach]:
    context = container.get("securityContext") or {}
    at: Path = ("securityContext",)
    for breach in _contexts(context):
        yield Breach((*at, *breach.path), breach.what, breach.fix)
    if context.get("privileged"):
        yield Breach((*at, "privileged"), "privileged is true")
    if context.get("allowPrivilegeEscalation") is not False:
        what = "allowPrivilegeEscalation is not false"
        yield Breach((*at, "allowPrivilegeEscalation"), what, "set it to false in its securityContext")
    if context.get("runAsNonRoot", pod_context.get("runAsNonRoot")) is not True:
        what = "runAsNonRoot is not true, here or on the pod"
        yield Breach((*at, "runAsNonRoot"), what, "set it to true in its securityContext")
    if "seccompProfile" not in context and "seccompProfile" not in pod_context:
        what = "no seccompProfile, here or on the pod"
        yield Breach((*at, "seccompProfile"), what, "set seccompProfile: {type: RuntimeDefault} in its securityContext")
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        what = "capabilities.drop lacks ALL"
        yield Breach((*at, "capabilities", "drop"), what, "set capabilities: {drop: [ALL]} in its securityContext")
    for index, capability in enumerate(capabilities.get("add") or ()):
        if capability != "NET_BIND_SERVICE":
            yield Breach((*at, "capabilities", "add", index), f"adds capability {capability}")
    if context.get("procMount", "Default") != "Default":
        yield Breach((*at, "procMount"), f"procMount is {context['procMount']}")
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            yield Breach(("ports", index, "hostPort"), f"hostPort {port['hostPort']}")
    yield from _handler_hosts(container)


def _handler_hosts(container: dict[str, Any]) -> Iterator[Breach]:
    """Probes and hooks may not name another host (baseline since Kubernetes 1.34)."""
    for path, handler in probes(container):
        for action in ("httpGet", "tcpSocket"):
            if (handler.get(action) or {}).get("host"):
                yield Breach((*path, action, "host"), f"{'.'.join(map(str, path))}.{action} names a host")
