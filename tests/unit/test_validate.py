"""What `gpu-inference validate` prints, which layer it blames, and how it exits."""

from __future__ import annotations

import io
import json
import re

import pytest
from support.expected import specs
from support.matrix import SCENARIOS, scenario

from gpu_inference.cli import main
from gpu_inference.paths import VALUES
from gpu_inference.report import Finding, Report, use_color
from gpu_inference.reporters import reporter

MODEL = """\
models:
  a:
    runtime: vllm
    model: {source: "hf://org/name"}
    accelerator: {type: nvidia-l4}
"""
LINE = re.compile(r"^(\S+):(\d+):(\d+): (\$\S*): (.+)\. Fix: (.+)\.  \[([a-z-]+)\]$")


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture
def run(capsys):
    def run(*words: str) -> tuple[int, str]:
        code = main(["validate", *words])
        return code, capsys.readouterr().out

    return run


def finding(text: str) -> dict[str, str]:
    """The one finding of a run in text format."""
    (line,) = [line for line in text.splitlines() if LINE.match(line)]
    keys = ("file", "line", "column", "path", "message", "fix", "rule")
    return dict(zip(keys, LINE.match(line).groups(), strict=True))


@pytest.mark.parametrize(
    ("entry", "message", "fix"),
    [
        ("replica: 2", "unknown key `replica`", "write `replicas`"),
        ("Replicas: 2", "unknown key `Replicas`", "write `replicas`"),
        ("tensor: 2", "unknown key `tensor`", "it belongs at `parallelism.tensor` of the model"),
        ("capacity: Spot", '"Spot" is not one of onDemand, spot', "write spot"),
        ("capacity: cheap", '"cheap" is not one of onDemand, spot', "use one of onDemand, spot"),
        ("replicas: '2'", '"2" is a string, not an integer', "remove the quotes"),
        ("replicas: [2]", "[2] is a list, not an integer", "write an integer"),
        ("podLabels: {a: 1}", "1 is not a string or false", 'quote it: "1"'),
        ("env: {A: true}", "true is not a string or a map or false", 'quote it: "true"'),
        ("replicas: ~", "null is not allowed", "remove the key"),
        ("shm: {sizeLimit: 2GB}", '"2GB" does not have the right form', 'write "2Gi"'),
        ("service: {port: 0}", "0 is out of range", "use 1 or more"),
        ("extraArgs: [--port, 1]", "--port is set by the chart already", "set runtimes.vllm.ports.http instead"),
    ],
)
def test_words(write, run, entry, message, fix):
    code, out = run(write("v.yaml", f"{MODEL}    {entry}\n"))
    found = finding(out)
    assert code == 1
    assert found["message"].startswith(message)
    assert found["fix"].startswith(fix)
    assert found["line"] == "6"


@pytest.mark.parametrize(
    ("was", "wrong", "fix"),
    [
        ("hf://org/name", "org/name-7B", 'write "hf://org/name-7B"'),
        ("hf://org/name", "https://huggingface.co/org/name", 'write "hf://org/name"'),
        ("hf://org/name", "ftp://org/Name", 'write it as in "hf://meta-llama/Llama-3.1-8B-Instruct"'),
        ("vllm", "vLLM", 'write "vllm"'),
    ],
)
def test_what_was_meant_by_a_wrong_form(write, run, was, wrong, fix):
    found = finding(run(write("a.yaml", MODEL.replace(was, wrong)))[1])
    assert (found["rule"], found["fix"]) == ("schema-format", fix)


def test_what_is_missing_is_shown_where_it_belongs(write, run):
    """At the name of the map that lacks it, not at the map's first entry."""
    found = finding(run(write("a.yaml", MODEL.replace("nvidia-l4", "nvidia-l4, count: 2")))[1])
    assert (found["path"], found["line"], found["column"]) == ("$.models.a.parallelism", "2", "3")
    assert found["fix"].endswith("as with tensor 2")


def test_a_warning_is_said_and_refuses_nothing(write, run):
    code, out = run(write("v.yaml", MODEL + "    service: {type: LoadBalancer}\n"))
    assert code == 0
    assert finding(out)["message"] == "warning: a LoadBalancer Service lets everybody in"
    assert out.endswith("ok: 1 values set, 1 warning\n")


def test_an_error_beside_a_warning_counts(write, run):
    code, out = run(write("v.yaml", MODEL + "    service: {type: NodePort}\n    replica: 2\n"))
    assert code == 1 and "1 finding in 1 values set" in out
    code, out = run(write("w.yaml", MODEL + "    service: {type: NodePort}\n    ingress: {enabled: true}\n"))
    assert code == 1 and "3 findings in 1 values set" in out


def test_unknown_presets_name_the_known_ones(write, run):
    out = run(write("v.yaml", "cloud: mars\n"))[1]
    assert finding(out)["fix"] == "use one of aks, eks, generic, gke, karpenter, or define it under clouds"
    near = finding(run(write("v.yaml", MODEL.replace("vllm", "vlm")))[1])["fix"]
    assert near.startswith("write vllm; or use one of ")
    assert "triton" in near


def test_unknown_presets_are_named_beside_other_mistakes(write, run):
    out = run(write("v.yaml", MODEL.replace("vllm", "vlm") + "    replicas: two\n"))[1]
    assert "[unknown-runtime]" in out
    assert "[schema-type]" in out


@pytest.mark.parametrize(
    ("preset", "place"),
    [
        ("env: {LIMIT: {from: drain.longest}}", "env.LIMIT.from"),
        ("env: {PORT: {from: ports.grpc}}", "env.PORT.from"),
        ("args: [{flag: --n, from: model.nam}]", "args[0].from"),
        ("files: {a.conf: 'dtype={model.dtype}'}", 'files["a.conf"]'),
        ("metrics: {inFlight: {selector: {model: model.name}}}", "metrics.inFlight.selector.model"),
    ],
)
def test_presets_refer_to_what_there_is(write, run, preset, place):
    found = finding(run(write("v.yaml", f"{MODEL}runtimes: {{vllm: {{{preset}}}}}\n"))[1])
    assert (found["rule"], found["path"], found["line"]) == ("preset-reference", f"$.runtimes.vllm.{place}", "6")


def test_a_finding_names_the_layer_that_set_the_value(write, run):
    one = write("one.yaml", MODEL + "    replicas: none\n    capacity: spot\n")
    two = write("two.yaml", "models:\n  a:\n    replicas: many\n    capacity: onDemand\n")
    found = finding(run("-f", one, "-f", two)[1])
    assert (found["file"], found["line"], found["column"]) == (two, "3", "15")
    found = finding(run("-f", two, "-f", one, "-q")[1].replace(two, "two").splitlines()[0])
    assert (found["file"], found["line"]) == (one, "6")


def test_files_are_judged_alone_and_layers_together(write, run):
    base, overlay = write("base.yaml", MODEL), write("overlay.yaml", "models: {a: {replicas: 2}}\n")
    assert run("-f", base, "-f", overlay)[0] == 0
    code, out = run(base, overlay, "-q")
    assert code == 1
    assert {LINE.match(line).group(1) for line in out.splitlines()} == {overlay}


def test_a_default_is_blamed_on_the_chart_only_where_nobody_else_set_anything(write, run):
    out = run(write("v.yaml", MODEL + "    autoscaling: {enabled: true, minReplicas: 9}\n"))[1]
    assert finding(out)["path"] == "$.models.a.autoscaling.maxReplicas"
    assert finding(out)["line"] == "6"


def test_broken_text_hides_nothing_but_what_depends_on_it(write, run):
    code, out = run(write("bad.yaml", "a: [\n"), write("v.yaml", "cloud: mars\n"), "-q")
    rules = [LINE.match(line).group(7) for line in out.splitlines()]
    assert (code, sorted(rules)) == (1, ["unknown-cloud", "yaml-syntax"])


def test_duplicate_keys_are_found_beside_other_mistakes(write, run):
    out = run(write("v.yaml", f"{MODEL}    replicas: 1\n    replicas: many\n"), "-q")[1]
    rules = [LINE.match(line).group(7) for line in out.splitlines()]
    assert rules == ["yaml-duplicate-key", "schema-type"]


def test_json(write, run):
    path = write("v.yaml", "cloud: mars\n")
    code, out = run(path, "-o", "json")
    (found,) = json.loads(out)["findings"]
    assert list(found) == ["rule", "severity", "file", "line", "column", "path", "message", "fix"]
    assert (code, found["rule"], found["line"], found["column"], found["path"]) == (1, "unknown-cloud", 1, 8, "$.cloud")
    assert json.loads(run(str(VALUES / "prod.yaml"), "-o", "json")[1]) == {"findings": []}


def test_standard_input(monkeypatch, run):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"cloud: mars\n")))
    code, out = run("-")
    assert (code, finding(out)["file"]) == (1, "<stdin>")


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "no values file given"), (["-", "-f", "-"], "standard input"), (["no-such-file.yaml"], "cannot read")],
)
def test_usage(capsys, words, message):
    assert main(["validate", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "\nfix: " in error


def test_verbosity(write, run):
    good = write("v.yaml", MODEL)
    assert run(good) == (0, "ok: 1 values set\n")
    assert run(good, "-q") == (0, "")
    assert run(good, "-v") == (0, f"checked {good}\nok: 1 values set\n")
    assert run("-f", good, "-f", good, "-v")[1].startswith(f"checked {good} + {good}\n")


def test_colour():
    report = Report([Finding("f", 1, 2, "rule", "$", "message", "fix")], ["f"])
    for color in (True, False):
        out = io.StringIO()
        reporter("text")(out, color=color).write(report)
        assert ("\033[" in out.getvalue()) == color
    out = io.StringIO()
    reporter("json")(out, color=True).write(report)
    assert "\033[" not in out.getvalue()


@pytest.mark.parametrize(
    ("choice", "terminal", "no_color", "expected"),
    [("auto", True, "", True), ("auto", True, "1", False), ("auto", False, "", False), ("always", False, "1", True)],
)
def test_when_there_is_colour(monkeypatch, choice, terminal, no_color, expected):
    monkeypatch.setenv("NO_COLOR", no_color)
    out = io.StringIO()
    out.isatty = lambda: terminal
    assert use_color(choice, out) is expected
    assert use_color("never", out) is False


def test_a_runtime_at_its_end_is_a_warning_and_no_error(write, run):
    notice = "runtimes: {vllm: {status: unmaintained, notice: It has ended; use another.}}\n"
    code, out = run(write("v.yaml", MODEL + notice))
    found = finding(out)
    assert (code, found["rule"], found["path"], found["line"]) == (0, "runtime-status", "$.models.a.runtime", "3")
    assert (found["message"], found["fix"]) == (
        "warning: the status of vllm is unmaintained",
        "It has ended; use another",
    )
    assert out.endswith("ok: 1 values set, 1 warning\n")
    code, out = run(write("v.yaml", MODEL + "    capacity: spot\n" + notice))
    assert (code, out.splitlines()[-1]) == (1, "2 findings in 1 values set")


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_projects_own_values(run, name):
    layers = scenario(name).layers
    code, out = run(*(word for layer in layers for word in ("-f", str(layer))))
    at_their_end = [m for m, spec in specs(scenario(name)).items() if "notice" in spec["_runtime"]]
    *lines, summary = out.splitlines()
    warnings = [line for line in lines if "[runtime-status]" in line]
    assert len(lines) == 3 * len(warnings)
    assert sorted(f"$.models.{m}.runtime" for m in at_their_end) == sorted(line.split(": ")[1] for line in warnings)
    more = f", {len(warnings)} warnings" if warnings else ""
    assert (code, summary) == (0, f"ok: 1 values set{more}")


def test_the_projects_own_values_at_once(run):
    files = sorted(map(str, VALUES.glob("*.yaml")))
    code, out = run("-q", *files)
    assert code == 0
    assert all("[runtime-status]" in line for line in out.splitlines())
    assert re.fullmatch(rf"ok: {len(files)} values sets(, \d+ warnings?)?", run(*files)[1].splitlines()[-1])
