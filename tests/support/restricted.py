"""Pod Security Standards, profile "restricted", written from the standard's own list.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (v1.36). The API server's admission plugin is
asked as well, on the cluster; this one names every breach of every rendered pod at once, offline.
"""

from __future__ import annotations

from typing import Any

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


def violations(pod: dict[str, Any]) -> list[str]:
    """What keeps a pod (or pod template: {metadata, spec}) out of a restricted namespace; empty if nothing does."""
    spec = pod["spec"]
    found = _pod_wide(pod)
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(group, []):
            where = f"{group[:-1]} {container['name']}"
            found += [f"{where}: {what}" for what in _container(container, spec.get("securityContext", {}))]
    return found


def _pod_wide(pod: dict[str, Any]) -> list[str]:
    spec = pod["spec"]
    found = [f"{key} is true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        found += [f"volume {volume['name']} is a {kind}" for kind in sorted(kinds - VOLUMES)]
    context = spec.get("securityContext", {})
    found += [f"sysctl {s['name']}" for s in context.get("sysctls", []) if s["name"] not in SYSCTLS]
    for key, value in pod.get("metadata", {}).get("annotations", {}).items():
        if key.startswith(APPARMOR_ANNOTATION) and value != "runtime/default" and not value.startswith("localhost/"):
            found.append(f"annotation {key}: {value}")
    return found + [f"pod: {what}" for what in _contexts(context)]


def _contexts(context: dict[str, Any]) -> list[str]:
    """The fields a pod's and a container's security context share."""
    found = []
    if context.get("runAsNonRoot") is False:
        found.append("runAsNonRoot is false")
    if context.get("runAsUser") == 0:
        found.append("runAsUser is 0")
    for key in ("seccompProfile", "appArmorProfile"):
        if key in context and context[key].get("type") not in SAFE_PROFILES:
            found.append(f"{key} is {context[key].get('type')}")
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX_TYPES:
        found.append(f"SELinux type {selinux['type']}")
    found += [f"SELinux {key} is set" for key in ("user", "role") if selinux.get(key)]
    if context.get("windowsOptions", {}).get("hostProcess"):
        found.append("hostProcess is true")
    return found


def _container(container: dict[str, Any], pod_context: dict[str, Any]) -> list[str]:
    context = container.get("securityContext", {})
    found = _contexts(context)
    if context.get("privileged"):
        found.append("privileged is true")
    if context.get("allowPrivilegeEscalation") is not False:
        found.append("allowPrivilegeEscalation is not false")
    if context.get("runAsNonRoot", pod_context.get("runAsNonRoot")) is not True:
        found.append("runAsNonRoot is not true, here or on the pod")
    if "seccompProfile" not in context and "seccompProfile" not in pod_context:
        found.append("no seccompProfile, here or on the pod")
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        found.append("capabilities.drop lacks ALL")
    found += [f"adds capability {c}" for c in capabilities.get("add", []) if c != "NET_BIND_SERVICE"]
    if context.get("procMount", "Default") != "Default":
        found.append(f"procMount is {context['procMount']}")
    found += [f"hostPort {p['hostPort']}" for p in container.get("ports", []) if p.get("hostPort")]
    return found + _handler_hosts(container)


def _handler_hosts(container: dict[str, Any]) -> list[str]:
    """Probes and hooks may not name another host (baseline since Kubernetes 1.34)."""
    handlers = {key: container.get(key, {}) for key in ("startupProbe", "readinessProbe", "livenessProbe")}
    handlers |= {f"lifecycle.{key}": value for key, value in container.get("lifecycle", {}).items()}
    return [
        f"{key}.{action} names a host"
        for key, handler in handlers.items()
        for action in ("httpGet", "tcpSocket")
        if handler.get(action, {}).get("host")
    ]
