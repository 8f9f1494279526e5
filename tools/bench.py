"""Benchmarks, as JSON: `python tools/bench.py [--only render,validate,cluster] [--sizes 1,10,…] [--runs N]`.

Every ratio is of medians measured side by side, in turn, in one run: where a machine's speed drifts, both sides change
alike. Seconds are wall time of whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import kubernetes_validate
import yaml

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.errors import UserError
from gpu_inference.helm import Helm, find_helm
from gpu_inference.paths import CHART, VALUES

KUBERNETES = "1.36.0"
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
SCENARIOS = sorted(VALUES.glob("*.yaml"))
DEMO = VALUES / "overlays" / "demo.yaml"
MINIMAL = {
    "Chart.yaml": "apiVersion: v2\nname: minimal\nversion: 0.0.1\n",
    "templates/deployment.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: minimal}
spec:
  selector: {matchLabels: {app: minimal}}
  template:
    metadata: {labels: {app: minimal}}
    spec: {containers: [{name: minimal, image: "minimal:1"}]}
""",
}


def timed(command: Sequence[str | Path], stdin: bytes | None = None, one_core: bool = False) -> tuple[float, bytes]:
    """Wall seconds and standard output of a command that must succeed; `one_core`: it may use no more."""
    bind = (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if one_core else None
    start = time.perf_counter()
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True, preexec_fn=bind)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise UserError(f"{' '.join(map(str, command))} failed: {done.stderr.decode(errors='replace').strip()[-400:]}")
    return seconds, done.stdout


def cpu_seconds(command: Sequence[str | Path]) -> float:
    """CPU seconds, in user and system mode, of a command that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    timed(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_turn(candidates: dict[str, Callable[[], float]], runs: int) -> dict[str, float]:
    """Median seconds of each candidate; the candidates alternate, and each is warmed up once."""
    for run in candidates.values():
        run()
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, run in candidates.items():
            samples[name].append(run())
    return {name: statistics.median(values) for name, values in samples.items()}


def many_models(n: int) -> dict:
    """Values with n models that differ in name alone, shaped like prod.yaml's autoscaled one."""
    prod = yaml.safe_load((VALUES / "prod.yaml").read_text())
    return {"models": {f"model-{i}": prod["models"]["llama"] for i in range(n)}}


def bench_render(helm: Path, sizes: Sequence[int], runs: int) -> dict:
    """`helm template` of 1..1000 models beside `helm version` and a chart of one Deployment."""
    with tempfile.TemporaryDirectory() as tmp:
        minimal = Path(tmp, "minimal")
        for name, text in MINIMAL.items():
            (minimal / name).parent.mkdir(parents=True, exist_ok=True)
            (minimal / name).write_text(text)
        candidates: dict[str, Callable[[], float]] = {
            "helm version": lambda: timed([helm, "version"])[0],
            "minimal chart": lambda: timed([helm, "template", "m", minimal])[0],
        }
        objects = {}
        for n in sizes:
            file = Path(tmp, f"{n}.yaml")
            file.write_text(yaml.safe_dump(many_models(n)))
            command = [helm, "template", "m", CHART, "-f", file]
            objects[n] = timed(command)[1].count(b"\nkind: ")
            candidates[f"{n} models"] = lambda command=command: timed(command)[0]  # type: ignore[misc]
        seconds = in_turn(candidates, runs)
    version, base = seconds["helm version"], seconds["minimal chart"]
    rows = [
        {
            "models": n,
            "objects": objects[n],
            "ms": round(seconds[f"{n} models"] * 1e3, 1),
            "msPerModel": round(seconds[f"{n} models"] / n * 1e3, 3),
            "msPerObject": round(seconds[f"{n} models"] / objects[n] * 1e3, 3),
            "timesMinimalChart": round(seconds[f"{n} models"] / base, 2),
        }
        for n in sizes
    ]
    first, last = sizes[0], sizes[-1]
    more = seconds[f"{last} models"] - seconds[f"{first} models"]
    per_object = more / max(1, objects[last] - objects[first])
    result = {
        "helmVersionMs": round(version * 1e3, 1),
        "minimalChartMs": round(base * 1e3, 1),
        "renders": rows,
        "msPerFurtherObject": round(per_object * 1e3, 4),
        "furtherObjectsPerHelmVersion": round(version / per_object, 1),
        "target": "furtherObjectsPerHelmVersion >= 150",
    }
    if len(sizes) > 2:
        # 1.0 is linear: the cost of a further model at the large end over that at the small end.
        middle = sizes[-2]
        small = (seconds[f"{middle} models"] - seconds[f"{first} models"]) / (middle - first)
        large = (seconds[f"{last} models"] - seconds[f"{middle} models"]) / (last - middle)
        result["growth"] = round(large / small, 2)
    return result


def bench_validate(helm: Path, kubeconform: Path, runs: int) -> dict:
    """`gpu-inference validate`, with and without --render, of all scenarios in one call beside lint + template +
    kubeconform of each."""

    def toolchain() -> float:
        total = 0.0
        for file in SCENARIOS:
            total += timed([helm, "lint", CHART, "-f", file])[0]
            seconds, rendered = timed([helm, "template", "m", CHART, "-f", file])
            total += seconds
            # Of optional APIs it has no schemas.
            location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
            options = ["-strict", "-ignore-missing-schemas", "-schema-location", location]
            total += timed([kubeconform, *options, "-"], rendered)[0]
        return total

    cli = Path(sys.executable).with_name("gpu-inference")
    candidates: dict[str, Callable[[], float]] = {
        "validate": lambda: timed([cli, "validate", *SCENARIOS])[0],
        "toolchain": toolchain,
        "help": lambda: timed([cli, "--help"])[0],
        "help CPU": lambda: cpu_seconds([cli, "--help"]),
        "render": lambda: timed([cli, "validate", "--render", *SCENARIOS])[0],
    }
    with tempfile.TemporaryDirectory() as tmp, tempfile.TemporaryDirectory() as schemas:
        for schema in Path(SCHEMAS, f"v{KUBERNETES}-local-strict").glob("*.json"):
            # kubeconform would ask the network for the schema of schemas, and wait for it.
            content = json.loads(schema.read_bytes())
            content.pop("$schema", None)
            Path(schemas, schema.name).write_text(json.dumps(content))
        many = [Path(tmp, f"{number}-{file.name}") for number in range(200 // len(SCENARIOS)) for file in SCENARIOS]
        for copy in many:
            copy.write_bytes((VALUES / copy.name.partition("-")[2]).read_bytes())
        candidates["many, one core"] = lambda: timed([cli, "validate", tmp], one_core=True)[0]
        candidates["many"] = lambda: timed([cli, "validate", tmp])[0]
        seconds = in_turn(candidates, runs)
    return {
        "files": len(SCENARIOS),
        "validateMs": round(seconds["validate"] * 1e3, 1),
        "lintTemplateKubeconformMs": round(seconds["toolchain"] * 1e3, 1),
        "timesFaster": round(seconds["toolchain"] / seconds["validate"], 2),
        "target": "timesFaster >= 3, timesFasterWithRender >= 1, helpCpuMs <= 200",
        "validateRenderMs": round(seconds["render"] * 1e3, 1),
        "timesFasterWithRender": round(seconds["toolchain"] / seconds["render"], 2),
        "helpMs": round(seconds["help"] * 1e3, 1),
        "helpCpuMs": round(seconds["help CPU"] * 1e3, 1),
        "manyFiles": len(many),
        "manyFilesMs": round(seconds["many"] * 1e3, 1),
        "manyFilesOneCoreMs": round(seconds["many, one core"] * 1e3, 1),
    }


def bench_cluster(runs: int) -> dict:
    """Start of the embedded cluster, and `helm install --wait` of prod.yaml with the demo's short load times."""
    starts, installs = [], []
    for i in range(runs):
        begin = time.perf_counter()
        with EmbeddedCluster(f"bench-{os.getpid()}-{i}") as cluster:
            starts.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            Helm(find_helm(), kubeconfig=cluster.kubeconfig).install(
                "llm", CHART, layers=[VALUES / "prod.yaml", DEMO], namespace="default", wait=True
            )
            installs.append(time.perf_counter() - begin)
    return {
        "clusterStartSeconds": round(statistics.median(starts), 2),
        "installToAvailableSeconds": round(statistics.median(installs), 2),
        "loadSeconds": yaml.safe_load(DEMO.read_text())["models"]["llama"]["startup"]["loadSeconds"],
    }


def main() -> int:
    """Run the chosen benchmarks and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="render,validate,cluster", help="comma-separated; default: %(default)s")
    parser.add_argument("--sizes", default="1,10,100,300,1000", help="numbers of models; default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each candidate; default: %(default)s")
    args = parser.parse_args()
    only = args.only.split(",")
    sizes = [int(n) for n in args.sizes.split(",")]
    try:
        binaries = find_or_build(["helm", "kubeconform"])
        report: dict = {"machine": {"cpus": os.cpu_count(), "python": platform.python_version()}, "runs": args.runs}
        if "render" in only:
            report["render"] = bench_render(binaries["helm"], sizes, args.runs)
        if "validate" in only:
            report["validate"] = bench_validate(binaries["helm"], binaries["kubeconform"], args.runs)
        if "cluster" in only:
            report["cluster"] = bench_cluster(min(args.runs, 3))
    except UserError as error:
        print(f"error: {error.message}\nfix: {error.fix}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
