"""Rules about objects together: names, selectors, disruption budgets, autoscalers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from gpu_inference.validate.rendered.objects import MODEL_LABEL, WORKLOADS, Object, lookup, name, of_kind, selects
from gpu_inference.validate.rendered.release import Fault, Release
from gpu_inference.validate.schema_errors import nearest, show
from gpu_inference.values.tree import Path

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and labels/ (1.36)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
_LONGEST_NAME = 253
_NAMESPACE = "default"  # that of an object that names none: the release's, which is rendered into this
_ANY_NAME = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")  # such as system:node
# Where an object says which pods or which target it means.
_SELECTORS: dict[str, Path] = {
    "Service": ("spec", "selector"),
    "PodDisruptionBudget": ("spec", "selector"),
    "NetworkPolicy": ("spec", "podSelector"),
    "PodMonitor": ("spec", "selector"),
}


def _names(release: Release) -> Iterator[Fault]:
    for obj in release.objects:
        said = obj["metadata"].get("name") or ""
        if obj["kind"] not in _ANY_NAME and not (_NAME.fullmatch(said) and len(said) <= _LONGEST_NAME):
            fix = "use small letters, digits, - and . only"
            yield Fault("object-name", obj, ("metadata", "name"), f"{show(said)} cannot be a name", fix)
        for label, value in (obj["metadata"].get("labels") or {}).items():
            if not _LABEL.fullmatch(value or ""):
                fix = "use at most 63 letters, digits, -, _ and ."
                message = f"{show(value)} cannot be a label's value"
                yield Fault("object-name", obj, ("metadata", "labels", label), message, fix)


def _twice(release: Release) -> Iterator[Fault]:
    taken: dict[tuple[str, str, str, str], Object] = {}
    for obj in release.objects:
        group = obj["apiVersion"].rpartition("/")[0]
        key = (group, obj["kind"], obj["metadata"].get("namespace") or _NAMESPACE, obj["metadata"]["name"])
        if key in taken:
            # What the chart makes comes first or last, as its folders are called.
            mine = obj if release.origins.extra(obj) else taken[key]
            message = f"the release has a second {name(obj)}"
            yield Fault("object-taken", mine, ("metadata", "name"), message, "use another name")
        taken[key] = obj


def _selectors(release: Release) -> Iterator[Fault]:
    for obj in of_kind(release.objects, *WORKLOADS):
        selector = obj["spec"].get("selector")
        labels = (obj["spec"]["template"].get("metadata") or {}).get("labels") or {}
        if selector and not selects(selector, labels):
            message = f"does not select the pods of its own template, which have {labels or 'no labels'}"
            yield Fault("selector", obj, ("spec", "selector"), message, "give the template these labels")
    for obj in of_kind(release.objects, *_SELECTORS):
        path = _SELECTORS[obj["kind"]]
        below: Path = (*path, "matchLabels") if lookup(obj, (*path, "matchLabels")) else path
        model = lookup(obj, (*below, MODEL_LABEL))
        if isinstance(model, str) and model not in release.specs:
            likely = nearest(model, release.specs)
            fix = f"write {likely}" if likely else f"use one of {', '.join(release.specs) or 'the models there are'}"
            message = f"{show(model)} is no model of the release, so that nothing is selected"
            yield Fault("selector", obj, (*below, MODEL_LABEL), message, fix)


def _budgets(release: Release) -> Iterator[Fault]:
    budgets = of_kind(release.objects, "PodDisruptionBudget")
    for budget in budgets:
        spec = budget["spec"]
        if spec.get("maxUnavailable") is not None and spec.get("minAvailable") is not None:
            fix = "remove minAvailable"
            message = "minAvailable and maxUnavailable together are refused"
            yield Fault("disruption-budget", budget, ("spec", "minAvailable"), message, fix)
            continue
        for key, why in _blocking(release, budget):
            fix = "set maxUnavailable: 1 instead"
            yield Fault("disruption-budget", budget, ("spec", key), f"{why}: no node with such a pod can drain", fix)
    for pod in release.long_lived():
        labels = (pod.template.get("metadata") or {}).get("labels") or {}
        by = [budget for budget in budgets if selects(budget["spec"].get("selector") or {}, labels)]
        own = [budget for budget in by if release.origins.extra(budget)]
        if len(by) > 1 and own:
            others = ", ".join(name(budget) for budget in by if budget is not own[0])
            message = f"its pods are also those of {others}, and a pod of two budgets cannot be evicted at all"
            fix = "remove it, or set pdb.enabled to false"
            yield Fault("disruption-budget", own[0], ("spec", "selector"), message, fix)


def _blocking(release: Release, budget: Object) -> Iterator[tuple[str, str]]:
    spec = budget["spec"]
    if str(spec.get("maxUnavailable")) in ("0", "0%"):
        yield "maxUnavailable", "none of the pods may be missing"
    least = spec.get("minAvailable")
    if least == "100%":
        yield "minAvailable", "all of the pods must be there"
    elif isinstance(least, int):
        fewest = [_fewest(release, pod.obj) for pod in release.long_lived() if _meant(budget, pod.template)]
        known = [number for number in fewest if number is not None]
        if known and len(known) == len(fewest) and sum(known) <= least:
            yield "minAvailable", f"{least} of the pods must be there, and there may be {sum(known)}"


def _meant(budget: Object, template: Object) -> bool:
    return selects(budget["spec"].get("selector") or {}, (template.get("metadata") or {}).get("labels") or {})


def _fewest(release: Release, workload: Object) -> int | None:
    """Pods a workload has at the least; None where that is not known. A group has more pods than replicas."""
    if workload["kind"] not in ("Deployment", "StatefulSet"):
        return None
    for scaler in of_kind(release.objects, "HorizontalPodAutoscaler", "ScaledObject"):
        if _target(scaler) == name(workload):
            least = scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount"))
            return least if isinstance(least, int) and least else None
    found = workload["spec"].get("replicas")
    return found if isinstance(found, int) else None


def _autoscalers(release: Release) -> Iterator[Fault]:
    scalers = of_kind(release.objects, "HorizontalPodAutoscaler", "ScaledObject")
    workloads = {name(obj): obj for obj in release.objects}
    taken: dict[str, Object] = {}
    for scaler in sorted(filter(_target, scalers), key=lambda obj: bool(release.origins.extra(obj))):
        target = _target(scaler)
        path: Path = ("spec", "scaleTargetRef", "name")
        if target in taken:
            message = f"{name(taken[target])} scales {target} already, and the two would fight"
            yield Fault("two-autoscalers", scaler, path, message, "remove one of the two")
        elif "replicas" in workloads.get(target, {}).get("spec", {}) and release.origins.extra(scaler):
            message = f"{target} has replicas of its own, which every upgrade and every sync would set again"
            fix = "use autoscaling of the model instead, which leaves them out"
            yield Fault("two-autoscalers", scaler, path, message, fix)
        taken[target] = scaler


def _target(scaler: Object) -> str:
    to = lookup(scaler, ("spec", "scaleTargetRef"))
    return f"{to.get('kind', 'Deployment')}/{to.get('name')}" if isinstance(to, dict) else ""


RULES: tuple[Callable[[Release], Iterator[Fault]], ...] = (_names, _twice, _selectors, _budgets, _autoscalers)
