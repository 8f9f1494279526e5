"""The schema's own rules: self-contained, closed, documented, the same patterns to Python and to Helm, true to
values.yaml."""

from __future__ import annotations

import importlib
import json
import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from gpu_inference.paths import CHART, ROOT, SCHEMA
from gpu_inference.resolve import chart_defaults
from gpu_inference.schema import adapter_rules
from gpu_inference.schema.bundle import bundle, defaults, follow, references, source
from gpu_inference.schema.command import GENERATED
from gpu_inference.schema.docs import rows
from gpu_inference.validate.schema_errors import mistakes
from gpu_inference.values.loader import load
from gpu_inference.values.presets import KINDS, load_presets

FILE_SCHEMAS = {"runtimes": "runtimeFile", "accelerators": "acceleratorFile", "clouds": "cloudFile"}
MAX_BYTES = 60_000
# Not in RE2, or not the same there: look-around, back-references, possessive and atomic groups, classes wider in
# Python.
NOT_RE2 = re.compile(r"\(\?[=!<>P(#]|\\[1-9]|[*+?}]\+|\\[dDwWsSbBZAz]")


def schemas(node, path="$"):
    """Every schema in a bundle with its path."""
    yield path, node
    for key in ("properties", "$defs"):
        for name, child in node.get(key, {}).items():
            yield from schemas(child, f"{path}.{name}")
    for key in ("items", "additionalProperties", "propertyNames", "not"):
        if isinstance(node.get(key), dict):
            yield from schemas(node[key], f"{path}.{key}")
    for key in ("anyOf", "oneOf", "allOf"):
        for index, child in enumerate(node.get(key, ())):
            yield from schemas(child, f"{path}.{key}[{index}]")


BUNDLE = bundle()
ALL = list(schemas(BUNDLE))
# What requires the keys with defaults and what only narrows a choice describes no value.
DESCRIBING = [(path, node) for path, node in ALL if ".allOf" not in path]


@pytest.mark.parametrize("what", GENERATED)
def test_generated_files_are_up_to_date(what):
    module, target, _ = GENERATED[what]
    assert target.read_text(encoding="utf-8") == importlib.import_module(module).render(), (
        f"gpu-inference schema {what}"
    )


def test_it_is_a_schema_helm_can_read():
    text = (CHART / "values.schema.json").read_text(encoding="utf-8")
    Draft202012Validator.check_schema(json.loads(text))
    assert len(text.encode()) <= MAX_BYTES
    assert "$id" not in text
    assert all(reference.startswith("#/$defs/") for reference in re.findall(r'"\$ref": "([^"]*)"', text))
    assert set(references(BUNDLE)) == BUNDLE["$defs"].keys()


def test_no_null():
    assert not [path for path, node in ALL if "null" in str(node.get("type")) or None in node.get("enum", ())]
    assert not [str(found.at) for _, found in chart_defaults().tree.walk() if found.value is None]
    for kind in KINDS:
        for path in (CHART / kind).glob("*.yaml"):
            assert not [str(found.at) for _, found in load(path).tree.walk() if found.value is None]


@pytest.mark.parametrize("pattern", sorted({node["pattern"] for _, node in ALL if "pattern" in node}))
def test_patterns_mean_the_same_to_python_and_helm(pattern):
    re.compile(pattern)
    assert not NOT_RE2.search(pattern)
    # Otherwise a prefix would do, and `$` in the middle has another meaning for Python.
    assert pattern == "^-" or (pattern.startswith("^") and pattern.endswith("$") and pattern.count("$") == 1)


def test_objects_are_closed_unless_they_are_the_users():
    verbatim = {"env", "pod", "container", "mount", "source", "body", "global", "triggers", "extraObjects"}
    metric = "$.autoscaling.metrics.items.additionalProperties"  # the API's own kinds of metric
    for path, node in DESCRIBING:
        if node.get("type") == "object" and path != metric and not verbatim & set(path.split(".")):
            closed = node.get("additionalProperties") is False and node.get("properties")
            typed = isinstance(node.get("additionalProperties"), dict)
            assert closed or typed, path


def test_every_key_is_described():
    for path, node in DESCRIBING:
        for name, child in node.get("properties", {}).items():
            assert follow(child).get("description", "").endswith("."), f"{path}.{name}"


def test_examples_are_valid():
    checked = 0
    for path, node in DESCRIBING:
        validator = Draft202012Validator({**node, "$defs": BUNDLE["$defs"]})
        for example in node.get("examples", ()):
            assert not list(validator.iter_errors(example)), path
            checked += 1
    assert checked > 30


def test_defaults_are_the_values():
    """Both directions: what values.yaml sets is documented with that default, and nothing else has one."""
    assert defaults(source()[0]) == chart_defaults().tree.plain()


def test_documented_keys_are_all_the_keys():
    documented = {row[0] for row in rows(source()[0], "", None)}
    assert {
        key for key in chart_defaults().tree.value if not any(re.match(rf"`{key}\b", row) for row in documented)
    } == set()
    assert len(list(rows(source()[1]["model"], "", None))) > 80


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, path.stem) for kind in KINDS for path in sorted((CHART / kind).glob("*.yaml"))]
)
def test_presets_are_valid(kind, name):
    document = load(CHART / kind / f"{name}.yaml")
    assert not document.problems
    assert not list(mistakes(document.tree.plain(), FILE_SCHEMAS[kind]))
    assert Draft202012Validator({**BUNDLE["properties"][kind]["propertyNames"], "$defs": BUNDLE["$defs"]}).is_valid(
        name
    )


def test_every_source_file_is_used():
    _, definitions = source()
    reached = set(BUNDLE["$defs"]) | {name for entry in FILE_SCHEMAS.values() for name in bundle(entry)["$defs"]}
    assert definitions.keys() == reached
    assert len(list(SCHEMA.glob("*.yaml"))) > 2


def test_adapter_rules_are_the_presets():
    rules = yaml.safe_load((ROOT / "ci" / "prometheus-adapter" / "values.yaml").read_text())["rules"]["external"]
    presets = load_presets("runtimes").values()
    signals = [preset["metrics"]["inFlight"] for preset in presets if "inFlight" in preset["metrics"]]
    base = '<<with index .LabelValuesByName "gpu_inference_io_base_requests">>'

    def above_the_base(query: str) -> str:
        return f"{base}clamp_min(<<end>>{query}{base} - <<.>>, 0)<<end>>"

    wanted = {signal["name"]: above_the_base(signal["query"]) for signal in signals}
    assert len(wanted) == len(signals), "two runtimes' signals of one name"
    for preset in presets:
        for series in (preset["metrics"]["names"].get(name) for name in ("waiting", "kvCacheUsage")):
            if series:
                wanted[series.replace(":", "_")] = above_the_base(f"sum({series}{{<<.LabelMatchers>>}})")
    assert len(wanted) > len(signals) + 10
    assert {rule["name"]["as"]: rule["metricsQuery"] for rule in rules} == wanted
    for rule in rules:
        assert "<<.LabelMatchers>>" in rule["metricsQuery"]
        assert rule["resources"] == {"overrides": {"namespace": {"resource": "namespace"}}}
        assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*\{.*\}", rule["seriesQuery"])


def test_a_runtime_without_the_metric_gets_no_rule(monkeypatch):
    monkeypatch.setattr(adapter_rules, "load_presets", lambda kind: {"mute": {"metrics": {"names": {}}}})
    assert yaml.safe_load(adapter_rules.render()) == {"rules": {"external": [], "custom": []}}


def test_custom_rules_name_the_object_and_group_by_it():
    """Of a Service by the label of the chart's pods, of a pod as Prometheus renames what the GPU's exporter says."""
    rules = yaml.safe_load((ROOT / "ci" / "prometheus-adapter" / "values.yaml").read_text())["rules"]["custom"]
    named = {rule["name"]["as"]: rule for rule in rules}
    assert named.keys() == {"triton_queue_compute_ratio", "DCGM_FI_DEV_GPU_UTIL"}
    for rule in rules:
        labels = rule["resources"]["overrides"]
        assert {tuple(label.values()) for label in labels.values()} in (
            {("namespace",), ("service",)},
            {("namespace",), ("pod",)},
        )
        assert all(f'{label}!=""' in rule["seriesQuery"] for label in labels)
        assert rule["metricsQuery"].endswith("by (<<.GroupBy>>)")
    assert "pod" not in named["DCGM_FI_DEV_GPU_UTIL"]["resources"]["overrides"], "the exporter's own pod"


def test_values_yaml_has_no_problem():
    assert not chart_defaults().problems
    assert len((CHART / "values.yaml").read_text(encoding="utf-8").splitlines()) <= 300
