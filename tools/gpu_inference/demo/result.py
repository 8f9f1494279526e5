"""What a run of the demo found: the checks it must pass and the summary that is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpu_inference.demo.observe import Sample
from gpu_inference.load.process import json_summary
from gpu_inference.load.records import SLO, Record

VERSION = 1


@dataclass(frozen=True)
class Check:
    """One thing that must be true for the demo to have passed."""

    name: str
    passed: bool
    detail: str


@dataclass
class Result:
    """Filled by the scenario as it goes. Times in s since observation began; `series`: (time, value) of Prometheus."""

    model: str
    minimum: int
    maximum: int
    target: float
    slo: SLO
    cluster: dict[str, Any]
    layers: list[str]
    traffic: dict[str, Any]
    started: str
    seconds: dict[str, float] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    leftovers: list[str] | None = None
    samples: list[Sample] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    traffic_at: float = 0.0
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)

    def judge_load(self) -> None:
        """Compute the figures of every target from the records."""
        self.load = json_summary(self.records, self.slo)

    @property
    def duration(self) -> float:
        """Seconds of planned traffic."""
        return float(self.traffic["duration_s"])


def scaling(result: Result) -> dict[str, Any]:
    """How the replicas moved; times in s since the traffic began, None for what did not happen."""
    samples = result.samples
    up = next((s.time for s in samples if s.desired > result.minimum), None)
    peak_ready = max((s.ready for s in samples), default=0)
    peak_at = next((s.time for s in samples if s.ready == peak_ready), 0.0)
    back = None
    if up is not None and at_minimum(samples[-1], result.minimum):
        away = [i for i, s in enumerate(samples) if not at_minimum(s, result.minimum)]
        back = samples[away[-1] + 1].time
    since = [None if t is None else round(t - result.traffic_at, 1) for t in (up, peak_at, back)]
    return {
        "model": result.model,
        "min": result.minimum,
        "max": result.maximum,
        "target_in_flight": result.target,
        "peak_desired": max((s.desired for s in samples), default=0),
        "peak_ready": peak_ready,
        "first_scale_up_s": since[0],
        "peak_ready_s": since[1],
        "back_at_min_s": since[2],
    }


def at_minimum(sample: Sample, minimum: int) -> bool:
    """Whether exactly the minimum is wanted, ready, and there."""
    return sample.desired == sample.ready == sample.existing == minimum


def peak_gpus(result: Result) -> float:
    """GPUs of the largest fleet; what terminating pods hold while others take their place is no part of it."""
    return max(s.gpus - s.gpus_leaving for s in result.samples)


def gpu_hours(result: Result) -> dict[str, float]:
    """GPU-hours held from the installation on, beside a fleet that has the peak's replicas all the time."""
    last = result.samples[-1]
    peak = peak_gpus(result) * (last.time - result.samples[0].time) / 3600
    saved = 1 - last.gpu_hours / peak if peak else 0.0
    return {"held": round(last.gpu_hours, 4), "fixed_at_peak": round(peak, 4), "saved": round(saved, 4)}


def checks(result: Result) -> list[Check]:
    """Everything the demo promises, with what was seen."""
    moved = scaling(result)
    failed = {name: load["requests"]["failed"] for name, load in result.load.items()}
    errors = [error for load in result.load.values() for error in load["errors"]]
    level = result.load.get(result.model, {}).get("slo", {})
    total, count = sum(load["requests"]["total"] for load in result.load.values()), sum(result.objects.values())
    found = [
        Check(
            "every object was accepted",
            not result.missing and count > 0,
            f"not there: {', '.join(result.missing)}" if result.missing else f"{count} objects",
        ),
        Check(
            "replicas rose above the minimum",
            min(moved["peak_desired"], moved["peak_ready"]) > result.minimum,
            f"from {result.minimum} to {moved['peak_ready']}",
        ),
        Check(
            "replicas came back to the minimum",
            moved["back_at_min_s"] is not None,
            f"{result.samples[-1].existing} at the end" if result.samples else "nothing was seen",
        ),
        Check(
            "no request failed",
            total > 0 and not any(failed.values()),
            f"{sum(failed.values())} of {total}" + (f": {errors[0]}" if errors else ""),
        ),
        Check(
            "the service level was computed",
            level.get("attainment") is not None,
            f"{level['attainment']:.1%} of requests within it" if level.get("attainment") is not None else "no streams",
        ),
    ]
    if result.leftovers is not None:
        left = ", ".join(result.leftovers)
        found.append(Check("helm uninstall left nothing", not result.leftovers, left or "nothing there"))
    return found


def summary(result: Result) -> dict[str, Any]:
    """The JSON summary; see tests/unit/test_demo_report.py for its shape."""
    found = checks(result)
    return {
        "version": VERSION,
        "started": result.started,
        "simulated": "GPUs and model servers are simulated; control plane, autoscaler, Prometheus and traffic are not",
        "passed": all(c.passed for c in found),
        "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in found],
        "seconds": {name: round(value, 1) for name, value in result.seconds.items()},
        "cluster": result.cluster,
        "chart": {"layers": result.layers, "objects": result.objects},
        "traffic": result.traffic,
        "scaling": scaling(result),
        "gpu_hours": gpu_hours(result),
        "load": result.load,
    }
