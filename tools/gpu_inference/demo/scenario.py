"""The demo from beginning to end, phase by phase."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.progress import Progress as BuildProgress
from gpu_inference.demo import environment, prometheus
from gpu_inference.demo.observe import Observer, Sample
from gpu_inference.demo.result import Result, at_minimum
from gpu_inference.demo.view import View
from gpu_inference.errors import UserError
from gpu_inference.helm import Helm
from gpu_inference.load.process import LoadProcess, Progress, Target
from gpu_inference.load.traces import Arrival

TICK = 1.0  # s between two samples
MARGIN = 60.0  # s that a phase may take beyond what the values say
TRICKLE = 2.0  # s between two requests to each model that the trace is not for
TRICKLE_SIZES = {"openai": (100, 20), "triton": (8, 1)}  # prompt and answer tokens; texts a batch
UNINSTALL_SECONDS = 120.0
NO_NODE_SECONDS = 20.0  # for volumes to be bound; no nodes are added here, so a pod without one by then stays so


@dataclass(frozen=True)
class Plan:
    """What to run: the resolved models, the layers of values for helm, the arrivals for the autoscaled model."""

    models: dict[str, Any]
    layers: list[Path]
    cloud: str
    arrivals: list[Arrival]
    name: str
    keep: bool


def autoscaled(models: dict[str, Any]) -> str:
    """The model the trace is replayed against: the first with an OpenAI API and an autoscaler. Raises UserError."""
    for name, spec in models.items():
        if spec["autoscaling"]["enabled"] and spec["runtimePreset"]["api"] == "openai":
            return name
    raise UserError(
        "no model of these values has both an OpenAI API and autoscaling",
        fix="set autoscaling.enabled: true on one whose runtime serves the OpenAI API (vllm)",
    )


class Demo:
    """One run. `result` is filled as it goes; everything that was started is undone by the stack it is given."""

    def __init__(self, plan: Plan, result: Result, view: View, progress: BuildProgress, stack: ExitStack) -> None:
        self.plan, self.result, self.view, self.stack = plan, result, view, stack
        self.progress = progress
        self.cluster: EmbeddedCluster = environment.start_cluster(plan.name, plan.cloud, plan.keep, progress)
        self.spec = plan.models[result.model]
        self.load_progress = Progress()

    def run(self) -> None:
        """All phases. Raises UserError for what makes going on pointless."""
        with self._phase("binaries"):
            self.helm = Helm(find_or_build(["helm"], self.progress)["helm"])
        with self._phase("render"):
            self.release = environment.render(self.helm, self.plan.layers)
        with self._phase("cluster"):
            self._start_cluster()
        with self._phase("install"):
            self._install()
        with self._phase("available"):
            self._wait_available()
        with self._phase("traffic"):
            self._replay()
        with self._phase("scale-down"):
            self._scale_down()
        self.view.close()
        self._ask_prometheus()
        self.result.judge_load()
        if not self.plan.keep:
            with self._phase("uninstall"):
                self._uninstall()

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.result.seconds[name] = time.monotonic() - began

    def _start_cluster(self) -> None:
        self.stack.callback(lambda: None if self._kept else self.cluster.down())
        self.cluster.up()
        self.helm.kubeconfig = self.cluster.kubeconfig
        self.twin = environment.Twin(self.cluster, self.plan.models, self.plan.keep)
        self.stack.callback(lambda: None if self._kept else self.twin.stop())
        environment.apply(self.cluster, environment.prerequisites(self.plan.models))
        self.twin.wait()
        resources = {spec["accelerator"]["resource"] for spec in self.plan.models.values()}
        self.observer = Observer(self.cluster.kubeconfig, environment.NAMESPACE, resources)
        self.stack.callback(self.observer.stop)
        self.wall = time.time() - (time.monotonic() - self.observer.began)
        self.result.cluster |= {"nodes": self.observer.nodes, "kubernetes": self.observer.version}
        self.view.step(f"cluster of {self.plan.cloud}: {self.observer.nodes} nodes; the twin stands for their GPUs")

    # Only a run that came to its end leaves its cluster behind.
    _finished = False

    @property
    def _kept(self) -> bool:
        return self.plan.keep and self._finished

    def finish(self) -> None:
        """The run came to its end: with `keep`, cluster and twin stay."""
        self._finished = True

    def _install(self) -> None:
        layers = ", ".join(path.name for path in self.plan.layers)
        self.view.step(f"helm {self.helm.major}: install {environment.RELEASE} with {layers}")
        environment.install(self.helm, self.plan.layers)
        self.result.objects, self.result.missing = self.release.counts, self.release.missing(self.cluster)
        self.view.step("installed: " + ", ".join(f"{n} {kind}" for kind, n in self.result.objects.items()))

    def _observe(self, phase: str, done: Callable[[Sample], bool], seconds: float) -> bool:
        """A sample a second until `done`, at most `seconds`; whether it came to that."""
        deadline = time.monotonic() + seconds
        due = time.monotonic()
        while True:
            self.twin.check()
            sample = self.observer.sample(self.result.model, self.load_progress)
            self.result.samples.append(sample)
            self.view.show(phase, sample, self.load_progress.planned)
            if done(sample):
                return True
            if time.monotonic() > deadline:
                return False
            due += TICK
            time.sleep(max(0.0, due - time.monotonic()))

    def _wait_available(self) -> None:
        budget = max(spec["startup"]["budgetSeconds"] for spec in self.plan.models.values()) + MARGIN

        began = time.monotonic()
        available = False

        def decided(sample: Sample) -> bool:
            nonlocal available
            available = bool(sample.desired) and not self.observer.unavailable() and sample.scaling_active
            hopeless = time.monotonic() - began > NO_NODE_SECONDS and self.observer.unschedulable()
            return available or bool(hopeless)

        self._observe("loading the models", decided, budget)
        if not available:
            self.view.close()
            why = self.observer.unschedulable() or "; ".join(self.observer.unavailable())
            raise UserError(
                f"not available after {time.monotonic() - began:.0f} s: {why or 'the HPA gets no metric'}",
                fix=f"does a node of the inventory {self.plan.cloud} have what the values ask for?",
                exit_code=1,
            )

    def url(self, model: str) -> str:
        """Where a model's Service is reached: the twin routes the API server's proxy URLs."""
        services = f"{self.cluster.twin_url}/api/v1/namespaces/{environment.NAMESPACE}/services"
        return f"{services}/{self.release.name('Service', model)}:http/proxy"

    def _targets(self) -> list[Target]:
        found = []
        for name, spec in self.plan.models.items():
            api = spec["runtimePreset"]["api"]
            steps = range(int(self.result.duration / TRICKLE))
            trickle = [Arrival(i * TRICKLE, *TRICKLE_SIZES[api]) for i in steps]
            arrivals = self.plan.arrivals if name == self.result.model else trickle
            found.append(Target(name, api, self.url(name), spec["model"]["servedName"], arrivals))
        return found

    def _replay(self) -> None:
        with LoadProcess(self._targets()) as load:

            def ended(sample: Sample) -> bool:
                self.load_progress = load.progress
                return load.wait(0)

            # The longest answer has its time after the last request; a queue may add to it.
            self._observe("traffic", ended, self.result.duration + self.spec["drain"]["requestSeconds"] + 5 * MARGIN)
            if not load.wait(0):
                self.view.close()
                raise UserError("requests are still unanswered long after the traffic ended", exit_code=1)
            self.result.records = load.results()
            self.result.traffic_at = load.began - self.observer.began

    def _scale_down(self) -> None:
        down = self.spec["autoscaling"]["behavior"]["scaleDown"]
        steps = self.result.maximum * max((p["periodSeconds"] for p in down["policies"]), default=0)
        seconds = down["stabilizationWindowSeconds"] + steps + self.spec["drain"]["graceSeconds"] + MARGIN
        # The autoscaler has only "come back" once it had been away; a run that never scaled up is over at once.
        self._observe("scale-down", lambda sample: at_minimum(sample, self.result.minimum), seconds)

    def _ask_prometheus(self) -> None:
        names = self.spec["runtimePreset"]["metrics"]["names"]
        where = f'app_kubernetes_io_instance="{environment.RELEASE}",gpu_inference_io_model="{self.result.model}"'
        end = math.ceil(self.wall + self.result.samples[-1].time)
        for key in ("running", "waiting"):
            query = f"sum({names[key]}{{{where}}})" if key in names else "vector(0)"
            found = prometheus.history(self.cluster.prometheus_url, query, self.wall, end)
            self.result.series[key] = [(at - self.wall, value) for at, value in found]

    def _uninstall(self) -> None:
        self.helm.uninstall(environment.RELEASE, namespace=environment.NAMESPACE, wait=False)
        deadline = time.monotonic() + UNINSTALL_SECONDS
        while (left := environment.leftovers(self.cluster)) and time.monotonic() < deadline:
            time.sleep(TICK)
        self.result.leftovers = left
        self.view.step("helm uninstall: " + (f"{len(left)} objects left" if left else "nothing left"))
