"""Text that nobody wrote in good faith: a word about it, in bounded time and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gpu_inference.values.loader import MAX_BYTES, MAX_CHARACTERS, MAX_DEPTH, MAX_NODES

# What a set of values may take at most, README.md. Seconds of this process's CPU, whatever else the machine does.
SECONDS, MEMORY = 20, 1 << 30
MODEL = "modelDefaults: {runtime: vllm, model: {source: 'hf://a/b'}, accelerator: {type: nvidia-l4}}\n"
ARGO = "apiVersion: argoproj.io/v1alpha1\nkind: "
DEEP = "[" * (MAX_DEPTH - 10) + "%s" + "]" * (MAX_DEPTH - 10)

# name -> (text, rule of the first finding; none for values that are right)
CASES = {
    "10 MB": ("a: " + "x" * 10_000_000, "yaml-size"),
    "one long text": ("a: " + "x" * (MAX_BYTES - 10), "schema-unknown-key"),
    "empty lines": ("\n" * (MAX_BYTES - 1), None),
    "short lines": (".\n" * (MAX_BYTES // 2), "yaml-type"),
    "comments that ignore": ("# gpu-inference: ignore a until 2999-01-01: b\n" * 100_000, "ignore-unused"),
    "many keys": ("".join(f"k{i}: 1\n" for i in range(3 * MAX_NODES)), "yaml-size"),
    "a long list": (f"a: [{'1,' * 2 * MAX_NODES}]", "yaml-size"),
    "unknown keys": ("models:\n" + "".join(f"  m{i}: {{x: 1}}\n" for i in range(900)), "schema-unknown-key"),
    "more models than a release has": (
        f"{MODEL}models:\n" + "".join(f"  m{i}: {{}}\n" for i in range(40_000)),
        "schema-size",
    ),
    "as many models as a release has": (f"{MODEL}models:\n" + "".join(f"  m{i}: {{}}\n" for i in range(1000)), None),
    "the same key": ("a: 1\n" * 20_000, "yaml-duplicate-key"),
    "brackets": ("[" * 1_000_000, "yaml-depth"),
    "depth through aliases": (
        f"a0: &a0 {DEEP % 1}\n" + "".join(f"a{i}: &a{i} {DEEP % f'*a{i - 1}'}\n" for i in range(1, 50)),
        "yaml-depth",
    ),
    "maps that merge maps": (
        "a0: &a0 {}\n" + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 5000)),
        "yaml-depth",
    ),
    "merges that double": (
        "a0: &a0 {}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60)),
        "yaml-alias",
    ),
    "a long text, often": (f"a: &a {'x' * (MAX_CHARACTERS // 4)}\nb: [{'*a,' * 9}]\n", "yaml-alias"),
    "a pattern almost met": (f"models: {{a: {{ingress: {{host: '{'a.' * 500_000}!'}}}}}}\n", "schema-format"),
    "a long integer": (f"a: {'9' * 1_000_000}", "schema-unknown-key"),
    "digits apart": (f"a: 1{'_' * 1_000_000}1", "schema-unknown-key"),
    "documents": ("---\n" * 1_000_000, "yaml-size"),
    "manifests": (f"{ARGO}Application\n---\n" * 10_000, None),
    "manifests of nothing": ("kind: List\napiVersion: v1\n---\n" * 30_000, None),
    "parameters of long lists": (
        f"{ARGO}Application\nspec: {{source: {{chart: gpu-inference, helm: {{parameters: ["
        + ",".join(f"{{name: 'a[{i}][65536]', value: x}}" for i in range(3000))
        + "]}}}\n",
        "yaml-parameter",
    ),
    "applications": (
        f"{ARGO}ApplicationSet\nspec:\n  template: {{spec: {{x: [{'1,' * 20_000}]}}}}\n"
        f"  generators: [{{list: {{elements: [{'{a: b},' * 10_000}]}}}}]\n",
        "yaml-size",
    ),
    "releases": (f"releases: [{'{chart: a/gpu-inference},' * 10_000}]\n", "yaml-size"),
}
CODE = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
from gpu_inference.cli import main
sys.exit(main(["validate", "-q", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are Linux'")
@pytest.mark.parametrize("name", CASES)
def test_it_is_bounded(name, tmp_path):
    text, rule = CASES[name]
    file = tmp_path / "values.yaml"
    file.write_text(text)
    done = subprocess.run([sys.executable, "-c", CODE, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr[-500:] or "ended by the limit of CPU time"
    assert "Traceback" not in done.stderr
    first = done.stdout.partition("\n")[0]
    assert f"[{rule}]" in first if rule else not first


def test_no_more_is_read_than_counts():
    """A file without end, such as a device, is no different from one that is too large."""
    done = subprocess.run([sys.executable, "-c", CODE, "/dev/zero"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("yaml-size")) == (1, 1), done.stderr
