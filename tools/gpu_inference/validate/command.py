"""`gpu-inference validate`: values files against the chart's schema and rules."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu_inference.errors import UserError

_EPILOG = """\
Each FILE is judged alone over the chart's defaults. Files given with -f are layers of one release, merged as Helm
merges them; a finding names the layer that set the value. Exit code: 0 fine or warnings only, 1 findings, 2
wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a values file; - is standard input")
    parser.add_argument(
        "-f",
        "--values",
        dest="layers",
        type=Path,
        action="append",
        default=[],
        metavar="LAYER",
        help="a layer, as helm's -f; later ones win",
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="format (default: text)")
    parser.add_argument("-q", "--quiet", action="count", default=0, help="findings only")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="also name what was checked")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: auto")


def run(args: argparse.Namespace) -> int:
    from gpu_inference.report import REPORTERS, use_color
    from gpu_inference.validate.engine import Subject, check
    from gpu_inference.values.loader import load

    if not args.files and not args.layers:
        raise UserError("no values file given", fix="name files to check each alone, or layers of a release with -f")
    if [str(path) for path in (*args.files, *args.layers)].count("-") > 1:
        raise UserError("standard input can be read only once", fix="give - once")
    subjects = [Subject([load(path)]) for path in args.files]
    if args.layers:
        subjects.append(Subject([load(path) for path in args.layers]))
    report = check(subjects)
    verbosity = 1 + args.verbose - args.quiet
    REPORTERS[args.output](sys.stdout, verbosity, use_color(args.color)).write(report)
    return report.exit_code
