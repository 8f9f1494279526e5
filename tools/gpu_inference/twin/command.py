"""`gpu-inference twin`: one emulated server, or one process behind all pods of an embedded cluster."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.twin import contract, embedded
from gpu_inference.twin.container import image
from gpu_inference.twin.spec import server_spec
from gpu_inference.twin.standalone import Process
from gpu_inference.values.presets import Kind, load_presets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, help="port of the API (default: the preset's; embedded: a free one)")
    parser.add_argument("--resolved", type=Path, help="resolved specs, JSON: {release: {model: spec}}")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing")
    parser.add_argument(
        "--image",
        type=Path,
        metavar="DIRECTORY",
        help="write the container image that takes any runtime's place there, as an archive; print its name and path",
    )
    group = parser.add_argument_group("all pods of an embedded cluster")
    group.add_argument("--embedded", action="store_true", help="stand behind every pod, routed by proxy URLs")
    group.add_argument("--kubeconfig", type=Path, help="the cluster's kubeconfig")
    one = parser.add_argument_group("one server, from a resolved spec or from options")
    one.add_argument("--release", help="release in --resolved")
    one.add_argument("--model", help="model in --resolved")
    one.add_argument("--preset", help=f"runtime preset: {', '.join(contract.known())}")
    one.add_argument("--accelerator", default="nvidia-l4", help="accelerator preset (default: %(default)s)")
    one.add_argument("--count", type=int, default=1, help="accelerators (default: %(default)s)")
    one.add_argument("--served-name", default="model", help="model name clients ask for (default: %(default)s)")
    one.add_argument("--parameters-billion", type=float, default=8.0, help="(default: %(default)s)")
    one.add_argument("--weights-dtype", default="fp8", help="(default: %(default)s)")
    one.add_argument("--context-length", type=int, default=8192, help="tokens (default: %(default)s)")
    one.add_argument("--tensor", type=int, default=1, help="tensor parallel size (default: %(default)s)")
    one.add_argument("--max-sequences", type=int, help="requests that run at once (default: the runtime's)")
    one.add_argument("--load-seconds", type=float, help="until it listens (default: the spec's, else 0)")
    one.add_argument(
        "--drain-seconds", type=float, help="for work in flight after SIGTERM (default: the spec's, else 60)"
    )
    one.add_argument("--metrics-port", type=int, help="if the runtime has one of its own (default: the preset's)")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM; the exit code is the emulated process's own. Ctrl-C ends it at once."""
    with contextlib.suppress(KeyboardInterrupt):
        return _run(args)
    return 0


def _run(args: argparse.Namespace) -> int:
    if args.image:
        path, name = image.build(args.image)
        print(f"{name}\n{path}")
        return 0
    report = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    if args.embedded:
        if not args.kubeconfig or not args.resolved:
            raise UserError("--embedded needs --kubeconfig and --resolved", fix="give both")
        return asyncio.run(embedded.run(args.kubeconfig, args.resolved, args.host, args.port or 0, report))
    spec = server_spec(_resolved(args))
    ports = dict(spec.ports)
    if args.port is not None:
        ports[spec.main_port] = args.port
    if args.metrics_port is not None:
        ports[spec.metrics_port] = args.metrics_port
    ports = {name: port for name, port in ports.items() if name in (spec.main_port, spec.metrics_port)}
    return asyncio.run(Process(spec, args.host, ports, report).run())


def _resolved(args: argparse.Namespace) -> Mapping[str, Any]:
    """The resolved spec the options mean."""
    resolved = _from_file(args) if args.resolved else _from_options(args)
    startup, drain = dict(resolved["startup"]), dict(resolved["drain"])
    if args.load_seconds is not None:
        startup["loadSeconds"] = args.load_seconds
    if args.drain_seconds is not None:
        drain["requestSeconds"] = args.drain_seconds
    return {**resolved, "startup": startup, "drain": drain}


def _from_file(args: argparse.Namespace) -> dict[str, Any]:
    try:
        releases = json.loads(args.resolved.read_text(encoding="utf-8"))
        spec: dict[str, Any] = releases[args.release][args.model]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {args.resolved}: {error}", fix="check --resolved") from error
    except (KeyError, TypeError):
        known = ", ".join(f"--release {r} --model {m}" for r, models in releases.items() for m in models)
        raise UserError(f"{args.resolved} has no {args.release}/{args.model}", fix=f"use one of: {known}") from None
    return spec


def _preset(kind: Kind, name: str) -> dict[str, Any]:
    presets = load_presets(kind)
    if name not in presets:
        raise UserError(f"no preset {name} in {kind}", fix=f"use one of: {', '.join(sorted(presets))}")
    preset: dict[str, Any] = presets[name]
    return preset


def _from_options(args: argparse.Namespace) -> dict[str, Any]:
    if not args.preset:
        raise UserError("say what to emulate", fix="--preset NAME, --resolved FILE, or --embedded")
    return {
        "name": args.served_name,
        "runtime": args.preset,
        "runtimePreset": _preset("runtimes", args.preset),
        "acceleratorPreset": _preset("accelerators", args.accelerator),
        "accelerator": {"type": args.accelerator, "count": args.count},
        "parallelism": {"tensor": args.tensor, "pipeline": 1},
        "model": {
            "servedName": args.served_name,
            "parametersBillion": args.parameters_billion,
            "weightsDtype": args.weights_dtype,
            "contextLength": args.context_length,
            "maxConcurrentRequests": args.max_sequences,
        },
        "startup": {"loadSeconds": 0},
        "drain": {"requestSeconds": 60},
    }
