"""`gpu-inference estimate`: does a model fit its GPUs, for how many requests, and how long does it load?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_inference.errors import UserError

if TYPE_CHECKING:
    from gpu_inference.serving.architecture import Architecture

GIB = 2**30
_EPILOG = """\
Models come from values files, resolved as the chart does it, or from --model with --accelerator. Estimates are within
a few percent of what vLLM reports for models of the catalogue (--list) and for a --config; coarser for others, which
need model.parametersBillion. Exit code: 0 everything fits, 1 a model does not, 2 wrong usage.
"""
# Options that make a model without values files.
_WITHOUT = (
    "model", "accelerator", "runtime", "parameters", "tensor", "pipeline", "context", "weights", "kv_cache",
    "memory_fraction",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("name", nargs="?", metavar="MODEL", help="only this model of the values")
    parser.add_argument(
        "-f", "--values", type=Path, action="append", default=[], metavar="LAYER", help="a values file; later ones win"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the model's own config.json")
    parser.add_argument("--list", action="store_true", help="list the catalogue's models and exit")
    without = parser.add_argument_group("without values files")
    without.add_argument("--model", metavar="ID", help="a model, by its Hugging Face name")
    without.add_argument("--accelerator", metavar="NAME", help="a file of chart/accelerators")
    without.add_argument("--runtime", metavar="NAME", help="default: vllm")
    without.add_argument("--parameters", type=_positive, metavar="BILLION", help="size of a model without a config")
    without.add_argument("--tensor", type=_count, metavar="N", help="tensor parallelism (default: 1)")
    without.add_argument("--pipeline", type=_count, metavar="N", help="pipeline stages (default: 1)")
    without.add_argument("--context", type=_count, metavar="TOKENS", help="longest sequence (default: the model's)")
    without.add_argument("--weights", metavar="FORMAT", help="bf16, fp8, awq, gptq, nvfp4, mxfp4 …")
    without.add_argument("--kv-cache", metavar="FORMAT", help="auto or fp8")
    without.add_argument("--memory-fraction", type=_fraction, metavar="X", help="default: the runtime's own")
    parser.add_argument(
        "--storage-rate", type=_positive, default=0.0, metavar="GBPS", help="of the model's storage, in GB/s"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="format (default: text)")


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list(args.output)
    estimates, left_out = [], []
    for name, spec in _specs(args).items():
        from gpu_inference.estimate.spec import NotEstimated, estimate_for
        from gpu_inference.values.presets import load_presets

        own = architecture_in(args.config, spec["model"].get("servedName")) if args.config else None
        try:
            estimates.append(estimate_for(spec, own, partial(load_presets, "accelerators"), args.storage_rate))
        except NotEstimated as reason:
            left_out.append((name, reason.message))
    if not estimates and args.name:
        raise UserError(left_out[0][1], fix="name another model")
    if args.output == "json":
        print(json.dumps({"models": [as_json(each) for each in estimates], "notEstimated": dict(left_out)}, indent=2))
    else:
        from gpu_inference.estimate.report import lines

        blocks = [list(lines(each)) for each in estimates]
        blocks += [[f"{name}: not estimated: {why.partition(': ')[2]}"] for name, why in left_out]
        print("\n\n".join("\n".join(block) for block in blocks))
    return 0 if all(each.fits for each in estimates) else 1


def as_json(found: Any) -> dict[str, Any]:
    """An Estimate as plain data; keys carry their units."""
    from dataclasses import asdict

    shape, now = found.shape, found.memory
    return {
        "name": found.name,
        "runtime": found.runtime,
        "model": {
            "architecture": shape.name,
            "exact": shape.exact,
            "parameters": shape.parameters,
            "activeParameters": shape.active_parameters,
            "weights": shape.weights,
        },
        "accelerator": found.gpu.name,
        "layout": asdict(found.layout),
        "fits": found.fits,
        "limit": found.limit,
        "memory": _memory_json(now),
        "startup": asdict(found.startup)
        | {
            "load_seconds": found.startup.load_seconds,
            "container_seconds": found.startup.container_seconds,
            "advised_load_seconds": found.startup.advised_load_seconds,
        },
        "host": asdict(found.host),
        "problems": [asdict(problem) for problem in found.problems],
        "suggestions": [{"values": dict(s.values), "memory": _memory_json(s.memory)} for s in found.suggestions],
        "notes": list(found.notes),
    }


def _memory_json(now: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(now) | {"fits": now.fits, "sequences_at_context": now.sequences_at_context}


def _specs(args: argparse.Namespace) -> Mapping[str, Any]:
    """The resolved models the arguments name."""
    from gpu_inference.resolve import resolve, resolve_values

    given = [name for name in _WITHOUT if getattr(args, name) is not None]
    if given:
        if args.values or args.name:
            named = f"--{given[0].replace('_', '-')}"
            raise UserError(f"{named} and values files exclude each other", fix="set it in the values")
        if not (args.model and args.accelerator):
            raise UserError("--model and --accelerator go together", fix="give both, or values files with -f")
        models: Mapping[str, Any] = resolve_values(_values(args))["models"]
        return models
    if not args.values:
        raise UserError("nothing to estimate", fix="give values files with -f, or --model and --accelerator")
    models = resolve(args.values)["models"]
    if args.name and args.name not in models:
        raise UserError(f"no model {args.name!r}", fix=f"use one of {', '.join(models) or '(the values define none)'}")
    if args.config and not args.name and len(models) != 1:
        raise UserError("--config is of one model", fix=f"name it: one of {', '.join(models)}")
    return {args.name: models[args.name]} if args.name else models


def _values(args: argparse.Namespace) -> dict[str, Any]:
    """The chart's values with one model made of the options."""
    from gpu_inference.resolve import chart_defaults

    tensor, pipeline = args.tensor or 1, args.pipeline or 1
    model = {
        "source": f"hf://{args.model}",
        "contextLength": args.context,
        "weightsDtype": args.weights,
        "kvCacheDtype": args.kv_cache,
        "parametersBillion": args.parameters,
    }
    own: dict[str, Any] = {
        "runtime": args.runtime or "vllm",
        "model": {key: value for key, value in model.items() if value is not None},
        "accelerator": {"type": args.accelerator, "count": tensor * pipeline},
        "parallelism": {"tensor": tensor, "pipeline": pipeline},
    }
    if args.memory_fraction:
        own["accelerator"]["memoryFraction"] = args.memory_fraction
    values: dict[str, Any] = chart_defaults().tree.plain()
    return values | {"models": {args.model.rpartition("/")[2].lower(): own}}


def architecture_in(path: Path, name: str | None = None) -> Architecture:
    """The architecture in a model's config.json. UserError for a file that is none."""
    from gpu_inference.serving.hf_config import architecture

    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", fix="give the path of a config.json") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}", fix="give the model's config.json") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not an object", fix="give the model's config.json")
    return architecture(config, name or path.name, str(path))


def _list(output: str) -> int:
    from gpu_inference.serving.catalogue import catalogue

    rows = [
        {"id": entry.id, "parametersBillion": round(entry.architecture.parameters.total / 1e9, 2)}
        for entry in catalogue().values()
    ]
    if output == "json":
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(f"{row['id']:50} {row['parametersBillion']:8.2f}B" for row in rows))
    return 0


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000_000:
        raise ValueError
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError
    return value


_count.__name__, _positive.__name__, _fraction.__name__ = "count", "positive number", "fraction of 1"
