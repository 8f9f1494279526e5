"""What holds for the objects of any release, whatever its values.

An invariant takes the objects alone and yields `Kind/name: what is wrong` for every breach. It needs neither values
nor presets nor a cluster, so that one list judges every values file, every preset and every combination of switches.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator
from typing import Any

from gpu_inference.validate.rendered.restricted import violations

from .objects import (
    WORKLOADS,
    Object,
    containers,
    is_headless,
    is_hook,
    model_of,
    name,
    of_kind,
    pod_templates,
    selects,
    walk,
)

Invariant = Callable[[list[Object]], Iterator[str]]
INVARIANTS: dict[str, Invariant] = {}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LOAD_SECONDS = "gpu-inference.io/load-seconds"
UNSEEN = ("NIMService",)  # whose operator makes the pods, out of what nobody sees here
CLUSTER_WIDE = ("PriorityClass", "ClusterRole", "ClusterRoleBinding", "DeviceClass")


def invariant(function: Invariant) -> Invariant:
    """Enters it into the list."""
    INVARIANTS[function.__name__] = function
    return function


def breaches(objects: list[Object]) -> dict[str, list[str]]:
    """Invariant -> what breaks it; empty when all hold."""
    return {key: found for key, check in INVARIANTS.items() if (found := list(check(objects)))}


def _long_lived(objects: list[Object]) -> list[tuple[str, Object]]:
    """Pod templates that are not a hook's own pod."""
    return [(where, pod) for where, pod in pod_templates(objects) if pod.get("kind") != "Pod" or not is_hook(pod)]


def _twice(names: list[Any]) -> list[Any]:
    return [each for each, times in collections.Counter(names).items() if times > 1]


@invariant
def pods_are_restricted(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        yield from (f"{where}: {what}" for what in violations(pod))


@invariant
def root_file_systems_are_read_only(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        for c in containers(pod):
            if c.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{where}: {c['name']}"


@invariant
def no_token_and_no_service_links(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        for field in ("automountServiceAccountToken", "enableServiceLinks"):
            # The head of a Ray cluster asks the API server for workers, in KubeRay's own account.
            asks = where.startswith("RayService/") and where.endswith("/head") and field.startswith("automount")
            if not asks and pod["spec"].get(field) is not False:
                yield f"{where}: {field} is not false"


@invariant
def names_are_valid_and_unique(objects: list[Object]) -> Iterator[str]:
    for obj in objects:
        if not DNS_LABEL.fullmatch(obj["metadata"]["name"]):
            yield f"{name(obj)}: no DNS label"
        made = obj["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "Helm"
        if made and obj["kind"] not in CLUSTER_WIDE and not obj["metadata"].get("namespace"):
            yield f"{name(obj)}: no namespace"
    yield from (f"{each}: twice" for each in _twice([name(o) for o in objects]))


@invariant
def nothing_is_null_or_left_unrendered(objects: list[Object]) -> Iterator[str]:
    for obj in objects:
        for path, value in walk(obj):
            if value is None:
                yield f"{name(obj)}: {path} is null"
            elif isinstance(value, str) and any(mark in value for mark in ("<no value>", "map[", "%!")):
                yield f"{name(obj)}: {path}: {value}"


@invariant
def names_in_lists_are_unique(objects: list[Object]) -> Iterator[str]:
    """Server-side apply, Helm 4's default, refuses the second."""
    for where, pod in pod_templates(objects):
        lists = {
            "containers": [c["name"] for c in containers(pod)],
            "volumes": [v["name"] for v in pod["spec"].get("volumes", [])],
            "tolerations": [str(sorted(t.items())) for t in pod["spec"].get("tolerations", [])],
        }
        for c in containers(pod):
            lists[f"{c['name']}.env"] = [e["name"] for e in c.get("env", [])]
            lists[f"{c['name']}.ports"] = [p.get("name") for p in c.get("ports", [])]
            lists[f"{c['name']}.port numbers"] = [p["containerPort"] for p in c.get("ports", [])]
            lists[f"{c['name']}.mountPaths"] = [m["mountPath"] for m in c.get("volumeMounts", [])]
        for what, names in lists.items():
            yield from (f"{where}: {what}: {each} twice" for each in _twice(names))
    for service in of_kind(objects, "Service"):
        yield from (f"{name(service)}: {p} twice" for p in _twice([p["name"] for p in service["spec"]["ports"]]))
        yield from (f"{name(service)}: {p} twice" for p in _twice([p["port"] for p in service["spec"]["ports"]]))


@invariant
def mounts_have_volumes_and_volumes_are_mounted(objects: list[Object]) -> Iterator[str]:
    claimed = {
        name(o): {c["metadata"]["name"] for c in o["spec"].get("volumeClaimTemplates", [])}
        for o in of_kind(objects, "StatefulSet")
    }
    for where, pod in pod_templates(objects):
        volumes = {v["name"] for v in pod["spec"].get("volumes", [])} | claimed.get(where, set())
        mounted = {m["name"] for c in containers(pod) for m in c.get("volumeMounts", [])}
        yield from (f"{where}: no volume {each}" for each in sorted(mounted - volumes))
        yield from (f"{where}: {each} is not mounted" for each in sorted(volumes - mounted))


@invariant
def scratch_volumes_have_a_limit(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        for volume in pod["spec"].get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{where}: {volume['name']}"


@invariant
def rendered_references_exist(objects: list[Object]) -> Iterator[str]:
    """A ConfigMap, claim or account that carries the release's name is the release's own, and so has to be there."""
    there = {name(o) for o in objects}
    releases = {o["metadata"].get("labels", {}).get("app.kubernetes.io/instance") for o in objects} - {None}

    def own(wanted: str) -> bool:
        return any(wanted == release or wanted.startswith(f"{release}-") for release in releases)

    for where, pod in pod_templates(objects):
        wanted = [f"ServiceAccount/{pod['spec'].get('serviceAccountName', 'default')}"]
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                wanted.append(f"ConfigMap/{volume['configMap']['name']}")
            if "persistentVolumeClaim" in volume:
                wanted.append(f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}")
        for claim in pod["spec"].get("resourceClaims", []):
            wanted.append(f"ResourceClaimTemplate/{claim['resourceClaimTemplateName']}")
        yield from (f"{where}: no {each}" for each in wanted if own(each.split("/")[1]) and each not in there)


@invariant
def ports_are_named_and_exist(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        for c in containers(pod):
            names = {p.get("name") for p in c.get("ports", [])}
            if None in names:
                yield f"{where}: {c['name']} has a port without a name"
            known = names | {p["containerPort"] for p in c.get("ports", [])}
            for key in PROBES:
                probe = c.get(key, {})
                action = probe.get("httpGet") or probe.get("tcpSocket") or probe.get("grpc")
                if action and action["port"] not in known:
                    yield f"{where}: {key} asks port {action['port']}, which {c['name']} has not"


@invariant
def services_reach_pods(objects: list[Object]) -> Iterator[str]:
    pods = [(where, pod) for where, pod in _long_lived(objects)]
    for service in of_kind(objects, "Service"):
        selector = service["spec"].get("selector")
        if not selector:
            continue
        chosen = [pod for _, pod in pods if selects(selector, pod["metadata"]["labels"])]
        if not chosen:
            yield f"{name(service)}: selects no pod"
        for pod in chosen:
            ports = {p.get("name") for c in containers(pod) for p in c.get("ports", [])}
            ports |= {p["containerPort"] for c in containers(pod) for p in c.get("ports", [])}
            for port in service["spec"]["ports"]:
                if port.get("targetPort", port["port"]) not in ports:
                    yield f"{name(service)}: no pod has port {port.get('targetPort')}"


@invariant
def pods_of_two_models_are_told_apart(objects: list[Object]) -> Iterator[str]:
    """Two Services that requests go to never share a pod."""
    services = [s for s in of_kind(objects, "Service") if s["spec"].get("selector") and not is_headless(s)]
    for where, pod in _long_lived(objects):
        by = [name(s) for s in services if selects(s["spec"]["selector"], pod["metadata"].get("labels", {}))]
        if len(by) > 1:
            yield f"{where}: {', '.join(by)}"


@invariant
def workloads_select_their_pods(objects: list[Object]) -> Iterator[str]:
    for obj in of_kind(objects, *WORKLOADS):
        selector = obj["spec"].get("selector")
        if selector and not selects(selector, obj["spec"]["template"]["metadata"]["labels"]):
            yield name(obj)


@invariant
def devices_are_requested_as_limited(objects: list[Object]) -> Iterator[str]:
    """Of an extended resource, such as a GPU, Kubernetes accepts nothing else."""
    for where, pod in pod_templates(objects):
        for c in containers(pod):
            asked, most = (c.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
            for resource in {r for r in {**asked, **most} if "/" in r}:
                if asked.get(resource) != most.get(resource):
                    yield f"{where}: {resource}: {asked.get(resource)} of {most.get(resource)}"


@invariant
def every_container_is_bounded(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        for c in containers(pod):
            for what in ("requests", "limits"):
                missing = {"cpu", "memory"} - c.get("resources", {}).get(what, {}).keys()
                yield from (f"{where}: {c['name']} has no {what}.{each}" for each in sorted(missing))


@invariant
def images_are_pinned(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        for c in containers(pod):
            last = c["image"].rsplit("/", 1)[-1]
            if c["image"].endswith(":latest") or (":" not in last and "@" not in c["image"]):
                yield f"{where}: {c['image']}"


@invariant
def autoscalers_own_the_replicas(objects: list[Object]) -> Iterator[str]:
    by_name = {name(o): o for o in objects}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        to = scaler["spec"]["scaleTargetRef"]
        target = by_name.get(f"{to.get('kind', 'Deployment')}/{to['name']}")
        if target is None:
            yield f"{name(scaler)}: nothing called {to['name']}"
        elif "replicas" in target["spec"]:
            yield f"{name(target)}: has replicas, and {name(scaler)} too"


@invariant
def no_two_autoscalers_fight(objects: list[Object]) -> Iterator[str]:
    targets = [
        (o["spec"]["scaleTargetRef"].get("kind", "Deployment"), o["spec"]["scaleTargetRef"]["name"])
        for o in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    ]
    yield from (str(each) for each in _twice(targets))


@invariant
def budgets_protect_and_never_block(objects: list[Object]) -> Iterator[str]:
    pods = _long_lived(objects)
    budgets = of_kind(objects, "PodDisruptionBudget")
    for budget in budgets:
        spec = budget["spec"]
        unseen = model_of(budget) in {model_of(o) for o in of_kind(objects, *UNSEEN)}
        if not unseen and not any(selects(spec["selector"], pod["metadata"]["labels"]) for _, pod in pods):
            yield f"{name(budget)}: selects no pod"
        if spec.get("maxUnavailable") in (0, "0%") or spec.get("minAvailable") == "100%":
            yield f"{name(budget)}: blocks every drain"
        if ("minAvailable" in spec) == ("maxUnavailable" in spec):
            yield f"{name(budget)}: says neither or both of minAvailable and maxUnavailable"
    for where, pod in pods:
        by = [name(b) for b in budgets if selects(b["spec"]["selector"], pod["metadata"].get("labels", {}))]
        if len(by) > 1:
            yield f"{where}: {', '.join(by)}: such a pod cannot be evicted at all"


@invariant
def loading_is_never_killed(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        load = int(pod["metadata"].get("annotations", {}).get(LOAD_SECONDS, 0))
        for c in pod["spec"]["containers"]:
            probe = c.get("startupProbe")
            if "livenessProbe" in c and not probe:
                yield f"{where}: {c['name']} is probed for liveness while it loads"
            if probe and probe["periodSeconds"] * probe["failureThreshold"] < load:
                yield f"{where}: {c['name']} may take {probe['periodSeconds'] * probe['failureThreshold']} of {load} s"


@invariant
def drains_fit_into_the_grace_period(objects: list[Object]) -> Iterator[str]:
    for where, pod in pod_templates(objects):
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        for c in pod["spec"]["containers"]:
            sleep = c.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if sleep > grace:
                yield f"{where}: sleeps {sleep} s of {grace}"


@invariant
def rollouts_outlast_the_start(objects: list[Object]) -> Iterator[str]:
    for obj in of_kind(objects, "Deployment"):
        pod = obj["spec"]["template"]
        load = int(pod["metadata"].get("annotations", {}).get(LOAD_SECONDS, 0))
        if obj["spec"].get("progressDeadlineSeconds", 600) <= load:
            yield name(obj)


@invariant
def routes_lead_to_services(objects: list[Object]) -> Iterator[str]:
    services = {s["metadata"]["name"]: s["spec"]["ports"] for s in of_kind(objects, "Service")}
    pools = {o["metadata"]["name"] for o in of_kind(objects, "InferencePool")}

    def missing(to: str, port: str | int) -> bool:
        return port not in {p[key] for p in services.get(to, []) for key in ("name", "port")}

    for obj in of_kind(objects, "Ingress"):
        for rule in obj["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                to = path["backend"]["service"]
                if missing(to["name"], to["port"].get("name", to["port"].get("number"))):
                    yield f"{name(obj)}: {to['name']}"
    for obj in of_kind(objects, "HTTPRoute", "GRPCRoute"):
        for ref in (ref for rule in obj["spec"]["rules"] for ref in rule["backendRefs"]):
            pool = ref.get("kind") == "InferencePool"
            if ref["name"] not in pools if pool else missing(ref["name"], ref["port"]):
                yield f"{name(obj)}: {ref['name']}"


@invariant
def tolerations_name_a_key(objects: list[Object]) -> Iterator[str]:
    """Without one it covers karpenter.sh/disrupted and node.kubernetes.io/not-ready: such pods never drain."""
    for where, pod in pod_templates(objects):
        if any(not t.get("key") for t in pod["spec"].get("tolerations", [])):
            yield where


@invariant
def only_tests_are_hooks(objects: list[Object]) -> Iterator[str]:
    """A hook is no part of the release: it is neither upgraded nor rolled back nor uninstalled."""
    for obj in objects:
        if is_hook(obj) and obj["metadata"]["annotations"]["helm.sh/hook"] != "test":
            yield name(obj)
