"""Rules about Kubernetes' version: what the chart would render that it does not have, or not by default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import yaml

from gpu_inference.paths import CHART
from gpu_inference.resolve import scheme, served
from gpu_inference.validate.schema_errors import Mistake

if TYPE_CHECKING:
    from gpu_inference.validate.context import Context
    from gpu_inference.validate.rules import Model

# resource.k8s.io/v1: https://kubernetes.io/blog/2025/09/01/kubernetes-v1-34-dra-updates/
_CLAIMS = (1, 34)
# The feature gate ImageVolume, on by default: https://github.com/kubernetes/enhancements/issues/4639
_IMAGE_VOLUMES = (1, 35)
# The feature gate HPAConfigurableTolerance, on by default: https://github.com/kubernetes/enhancements/issues/4951
_TOLERANCE = (1, 35)


def release(context: Context) -> Iterator[Mistake]:
    """The chart needs what it needs, whatever the values are."""
    if context.kube_version and context.kube_version < _least():
        wanted, own = _dotted(_least()), _dotted(context.kube_version)
        message = f"the chart needs Kubernetes {wanted}, for preStop sleep and native sidecars among others, not {own}"
        yield Mistake("kubernetes-version", (), message, f"upgrade the cluster to {wanted} or newer")


def versions(model: Model) -> Iterator[Mistake]:
    """What only newer versions serve, or do without a feature gate."""
    version = model.context.kube_version
    if version is None:
        return
    own = _dotted(version)
    if model.spec["accelerator"]["dra"] and version < _CLAIMS:
        message = f"Kubernetes {own} does not serve resource.k8s.io/v1"
        yield model.mistake("claim-version", "accelerator.dra", message, "set it to false, or upgrade to 1.34")
    if scheme(served(model.spec, model.runtime)) == "oci" and version < _IMAGE_VOLUMES:
        message = f"Kubernetes {own} drops image volumes without the feature gate ImageVolume: there would be no model"
        fix = "use another source, or upgrade to 1.35, or turn the gate on"
        yield _warning(model.mistake("image-volume", "model.source", message, fix))
    scaling = model.spec["autoscaling"]
    for direction, behavior in scaling["behavior"].items() if scaling["enabled"] else ():
        if "tolerance" in behavior and version < _TOLERANCE:
            path = f"autoscaling.behavior.{direction}.tolerance"
            message = f"Kubernetes {own} drops it, unless it has the feature gate HPAConfigurableTolerance"
            yield _warning(model.mistake("scaling-tolerance", path, message, "remove it, or upgrade to 1.35"))


def _warning(mistake: Mistake) -> Mistake:
    return replace(mistake, severity="warning")


@cache
def _least() -> tuple[int, int]:
    """kubeVersion of Chart.yaml, ">=1.33.0-0"."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    major, minor = re.findall(r"[0-9]+", chart["kubeVersion"])[:2]
    return int(major), int(minor)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


RULES = (versions,)
