"""What runs in the container in the place of a server: `vllm serve …`, `tritonserver …` with the chart's arguments.

A GPU, a model's size and its loading time are not in the arguments; they come from the environment:
    TWIN_RUNTIME              for presets without a command of their own, which start the image's entry point
    TWIN_SERVED_NAME          where it is not in the arguments: Triton's models are folders
    TWIN_ACCELERATOR          nvidia-l4
    TWIN_PARAMETERS_BILLION   8, with weights of TWIN_WEIGHTS_DTYPE, fp8
    TWIN_LOAD_SECONDS         3
    TWIN_FAULT                a name of faults.py, from the start
    TWIN_DISK                 /tmp, what the fault `disk` fills
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.twin.container import arguments
from gpu_inference.twin.container.faults import NEVER_LOAD, Faults
from gpu_inference.twin.contract import load
from gpu_inference.twin.spec import ServerSpec, server_spec
from gpu_inference.twin.standalone import Process
from gpu_inference.values.presets import load_presets

HOST = "0.0.0.0"
ENDLESS = 3600.0  # s of drain, for servers that are told no limit and have none


def resolved(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The resolved spec that a command line and the environment mean. UserError when no preset has such a command."""
    presets = load_presets("runtimes")
    runtime = environment.get("TWIN_RUNTIME") or arguments.runtime_of(command, presets)
    if runtime not in presets:
        raise UserError(
            f"no runtime preset starts {' '.join(command) or 'nothing'}", fix="set TWIN_RUNTIME to a preset's name"
        )
    preset = presets[runtime]
    own = preset.get("command") or []
    told, unknown = arguments.read(preset, command[len(own) :])
    if unknown:
        print(f"twin: not looked at: {' '.join(unknown)}", flush=True)
    accelerator = environment.get("TWIN_ACCELERATOR", "nvidia-l4")
    tensor = {"tensor": 1, "pipeline": 1, **told.get("parallelism", {})}
    model = {
        "servedName": environment.get("TWIN_SERVED_NAME", "model"),
        "contextLength": 8192,
        "parametersBillion": float(environment.get("TWIN_PARAMETERS_BILLION", "8")),
        "weightsDtype": environment.get("TWIN_WEIGHTS_DTYPE", "fp8"),
        **told.get("model", {}),
    }
    return {
        "name": model["servedName"],
        "runtime": runtime,
        "runtimePreset": {**preset, "ports": {**preset["ports"], **told.get("ports", {})}},
        "acceleratorPreset": load_presets("accelerators")[accelerator],
        "accelerator": {"type": accelerator, "count": tensor["tensor"], **told.get("accelerator", {})},
        "parallelism": tensor,
        "model": model,
        "startup": {"loadSeconds": _load_seconds(environment)},
        "drain": {"requestSeconds": _drain_seconds(preset, told, runtime)},
    }


def _load_seconds(environment: Mapping[str, str]) -> float:
    if environment.get("TWIN_FAULT") == NEVER_LOAD:
        return math.inf
    return float(environment.get("TWIN_LOAD_SECONDS", "3"))


def _drain_seconds(preset: Mapping[str, Any], told: arguments.Spec, runtime: str) -> float:
    """What the server is told; its own default where it is not told; no limit in a server that knows none."""
    if not arguments.takes(preset, "drain.requestSeconds"):
        return ENDLESS
    return float(told.get("drain", {}).get("requestSeconds", load(runtime)["lifecycle"].get("drainSeconds", 0)))


async def serve(spec: ServerSpec, fault: str, disk: Path) -> int:
    """Until the process ends as its contract says; the exit code."""

    def report(line: str) -> None:
        print(line, flush=True)

    ports = {name: spec.ports[name] for name in {spec.main_port, spec.metrics_port}}
    process = Process(spec, HOST, ports, report)
    faults = Faults(process.replica, report, disk)
    process.before = faults.before
    if fault and fault != NEVER_LOAD and not faults.start(fault):
        raise UserError(f"there is no fault {fault}", fix="see TWIN_FAULT in gpu_inference/twin/container/faults.py")
    return await process.run()


def main(command: Sequence[str]) -> int:
    """command: the words that started the server, its name first."""
    try:
        spec = server_spec(resolved(command, os.environ))
        return asyncio.run(serve(spec, os.environ.get("TWIN_FAULT", ""), Path(os.environ.get("TWIN_DISK", "/tmp"))))
    except UserError as error:
        print(f"error: {error.message}\nfix: {error.fix}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
