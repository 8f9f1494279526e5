"""The command line: finds the verb, imports its module, and turns a UserError into two lines on stderr.

A verb's module has `add_arguments(parser)` and `run(args) -> int` (0 fine, 1 findings, 2 usage) and is imported only
when it is used.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from gpu_inference.errors import UserError

VERBS = {
    "validate": ("gpu_inference.validate.command", "check values files as Helm will see them"),
    "rules": ("gpu_inference.validate.explain", "list the rules of validate, or explain one"),
    "diff": ("gpu_inference.diff.command", "say what a change does to every release: restarts, losses, GPUs, cost"),
    "schema": (
        "gpu_inference.schema.command",
        "build the chart's schema, its documentation and what is generated from presets",
    ),
    "resolve": ("gpu_inference.resolve", "print what each model becomes after defaults and presets"),
    "estimate": (
        "gpu_inference.estimate.command",
        "whether a model fits its GPUs, for how many requests, and its load time",
    ),
    "cluster": ("gpu_inference.cluster.command", "start, look at and stop a cluster to try the chart on"),
    "twin": ("gpu_inference.twin.command", "emulate the runtimes' HTTP contracts for the pods of a cluster"),
    "load": ("gpu_inference.load.command", "replay traffic against a model and measure it"),
    "demo": ("gpu_inference.demo.command", "one command: cluster, chart, twin, traffic, autoscaling, report"),
}


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: the look-up costs more than the rest of the parser."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"gpu-inference {version('gpu-inference')}")
        parser.exit()


def build_parser(argv: Sequence[str]) -> tuple[argparse.ArgumentParser, ModuleType | None]:
    """The parser and the module of the verb in argv, if there is one. Other verbs are listed but not imported."""
    parser = argparse.ArgumentParser(
        prog="gpu-inference", description="Tools of the gpu-inference Helm chart.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    module = None
    for name, (path, summary) in VERBS.items():
        verb = verbs.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if name == chosen:
            module = importlib.import_module(path)
            module.add_arguments(verb)
    return parser, module


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; the exit code is 0 (fine), 1 (findings), 2 (usage), 130 (interrupted)."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may have bytes that no encoding has
            stream.reconfigure(errors="backslashreplace")
    try:
        parser, module = build_parser(words)
        args = parser.parse_args(words)
        assert module is not None, "argparse lets no unknown verb through"
        code = module.run(args)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.fix:
            print(f"fix: {error.fix}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "gpu_inference":
            raise
        print(f"error: this needs {error.name}, which is not installed", file=sys.stderr)
        print("fix: install gpu-inference with its extra `all`, as in: pip install '.[all]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
