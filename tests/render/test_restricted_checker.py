"""The Pod Security checker finds every breach: each is put into a good pod, one at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gpu_inference.validate.rendered.restricted import violations

GOOD: dict[str, Any] = {
    "metadata": {},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "models", "persistentVolumeClaim": {"claimName": "m"}}],
        "containers": [
            {
                "name": "server",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
            }
        ],
    },
}

BREACHES = {
    "hostNetwork": ("spec", {"hostNetwork": True}),
    "hostPID": ("spec", {"hostPID": True}),
    "hostIPC": ("spec", {"hostIPC": True}),
    "hostPath": ("spec", {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}),
    "nfs": ("spec", {"volumes": [{"name": "x", "nfs": {"server": "a", "path": "/"}}]}),
    "pod-root": ("pod", {"runAsUser": 0}),
    "pod-nonroot-false": ("pod", {"runAsNonRoot": False}),
    "pod-nonroot-unset": ("pod", {"runAsNonRoot": None}),
    "seccomp-unconfined": ("pod", {"seccompProfile": {"type": "Unconfined"}}),
    "seccomp-unset": ("pod", {"seccompProfile": None}),
    "sysctl": ("pod", {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
    "apparmor": ("pod", {"appArmorProfile": {"type": "Unconfined"}}),
    "selinux-type": ("pod", {"seLinuxOptions": {"type": "spc_t"}}),
    "selinux-user": ("pod", {"seLinuxOptions": {"user": "system_u"}}),
    "selinux-role": ("pod", {"seLinuxOptions": {"role": "sysadm_r"}}),
    "host-process": ("pod", {"windowsOptions": {"hostProcess": True}}),
    "apparmor-annotation": (
        "metadata",
        {"annotations": {"container.apparmor.security.beta.kubernetes.io/server": "unconfined"}},
    ),
    "privileged": ("container", {"privileged": True}),
    "escalation": ("container", {"allowPrivilegeEscalation": True}),
    "escalation-unset": ("container", {"allowPrivilegeEscalation": None}),
    "capabilities-unset": ("container", {"capabilities": None}),
    "capabilities-some": ("container", {"capabilities": {"drop": ["NET_RAW"]}}),
    "capabilities-add": ("container", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    "root": ("container", {"runAsUser": 0}),
    "nonroot-false": ("container", {"runAsNonRoot": False}),
    "procmount": ("container", {"procMount": "Unmasked"}),
    "host-port": ("server", {"ports": [{"containerPort": 80, "hostPort": 80}]}),
    "probe-host": ("server", {"livenessProbe": {"httpGet": {"host": "10.0.0.1", "path": "/", "port": 80}}}),
    "hook-host": ("server", {"lifecycle": {"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}}}),
}


def _mutated(where: str, change: dict[str, Any]) -> dict[str, Any]:
    pod = copy.deepcopy(GOOD)
    server = pod["spec"]["containers"][0]
    target = {
        "metadata": pod["metadata"],
        "spec": pod["spec"],
        "pod": pod["spec"]["securityContext"],
        "server": server,
        "container": server["securityContext"],
    }[where]
    for key, value in change.items():
        if value is None:
            del target[key]
        else:
            target[key] = value
    return pod


def test_good_pod_passes():
    assert violations(GOOD) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_breach_is_found(breach):
    assert violations(_mutated(*BREACHES[breach]))


@pytest.mark.parametrize("group", ["initContainers", "ephemeralContainers"])
def test_every_container_counts(group):
    pod = copy.deepcopy(GOOD)
    pod["spec"][group] = [{"name": "other", "securityContext": {"privileged": True}}]
    assert {v.split(": ")[0] for v in violations(pod)} == {f"{group[:-1]} other"}
