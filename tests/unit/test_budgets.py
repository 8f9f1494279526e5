"""Sizes the project promises to keep, and that nothing in the chart escapes the tests."""

from __future__ import annotations

import collections
import json
import re
from pathlib import Path

import pytest
from support.matrix import ACCELERATORS, CLOUDS, OVERLAYS, RUNTIMES, SCENARIOS, cases, offered
from support.objects import walk
from support.render import load_yaml, render

from gpu_inference.paths import CHART, ROOT, VALUES

TEMPLATES = sorted(p for p in (CHART / "templates").rglob("*") if p.suffix == ".yaml" or p.name == "NOTES.txt")
LIBRARY = sorted((CHART / "templates").rglob("*.tpl"))
MODULES = sorted(p for top in ("tools", "tests") for p in (ROOT / top).rglob("*.py"))
PRESETS = [p for kind in ("runtimes", "accelerators", "clouds") for p in sorted((CHART / kind).iterdir())]
WINDOW = 8  # lines
SOURCE = "\n".join(p.read_text() for p in [*TEMPLATES, *LIBRARY])
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("path", "budget"),
    [
        (CHART / "values.yaml", 300),
        *((p, 60) for p in TEMPLATES),
        *((p, 150) for p in LIBRARY),
        *((p, 400) for p in MODULES),
    ],
    ids=lambda v: relative(v) if isinstance(v, Path) else str(v),
)
def test_lines_of_a_file(path, budget):
    assert len(lines(path)) <= budget


def named_templates(path: Path) -> dict[str, int]:
    """Name -> lines of each named template of a file, from its `define` to its own `end`."""
    found, depth, name, start = {}, 0, "", 0
    for number, line in enumerate(lines(path)):
        for word, title in re.findall(r'\{\{-? *(if|range|with|define|end)\b(?: "([^"]+)")?', line):
            if word == "define":
                name, start = title, number
            depth += -1 if word == "end" else 1
            if depth == 0:
                found[name] = number - start + 1
    assert depth == 0, f"{relative(path)}: blocks that this test cannot pair"
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_named_templates(path):
    found = named_templates(path)
    assert found
    assert {name: size for name, size in found.items() if size > 40} == {}
    for name in found:
        assert re.fullmatch(r"gpu-inference(\.[a-zA-Z]+){2}", name), f"{name}: gpu-inference.<file>.<thing>"


def test_no_named_template_is_unused():
    defined = {name for path in LIBRARY for name in named_templates(path)}
    # The last are those that gpu-inference.once.text is told.
    used = {name for call in ("include", "template", '"name"') for name in re.findall(call + ' "(gpu-[^"]+)"', SOURCE)}
    assert used - defined == set()
    assert defined - used == set()


def test_schema_size():
    assert (CHART / "values.schema.json").stat().st_size <= 60_000


def test_duplication_in_templates():
    """Share of code lines in 8-line windows that occur more than once."""
    windows: dict[tuple[str, ...], list[tuple[Path, int]]] = collections.defaultdict(list)
    total = 0
    for path in [*TEMPLATES, *LIBRARY]:
        text = re.sub(r"\{\{-? ?/\*.*?\*/ ?-?\}\}", "", path.read_text(), flags=re.DOTALL)
        code = [line.strip() for line in text.splitlines() if line.strip()]
        total += len(code)
        for i in range(len(code) - WINDOW + 1):
            windows[tuple(code[i : i + WINDOW])].append((path, i))
    twice = {(path, i + k) for at in windows.values() if len(at) > 1 for path, i in at for k in range(WINDOW)}
    assert len(twice) / total < 0.05, sorted({relative(path) for path, _ in twice})


@pytest.mark.parametrize("path", [*TEMPLATES, *LIBRARY], ids=relative)
def test_no_preset_is_named_in_a_template(path):
    """A runtime, an accelerator or a cloud is one data file: a template that knows one is a second place."""
    words = re.findall(r"[a-z0-9_]+(?:-[a-z0-9_]+)*", path.read_text().lower())
    assert set(words) & {*RUNTIMES, *ACCELERATORS, *CLOUDS} - {"generic"} == set()


# Every file is covered by a parametrization.


def test_every_values_file_is_rendered():
    files = {path for path in VALUES.rglob("*") if path.is_file()}
    assert len(files) == len(SCENARIOS)
    rendered = {layer for case in cases() for layer in case.layers}
    assert files <= rendered
    assert {path.stem for path in VALUES.glob("overlays/*")} == set(OVERLAYS)


def test_every_preset_is_rendered():
    models = [
        (load_yaml(layer).get("cloud", "generic"), model)
        for case in cases()
        for layer in case.layers
        for model in load_yaml(layer).get("models", {}).values()
    ]
    assert {cloud for cloud, _ in models} >= set(CLOUDS)
    assert {(m["runtime"], m["accelerator"]["type"], cloud) for cloud, m in models if "runtime" in m} >= {
        (runtime, accelerator, cloud)
        for runtime in RUNTIMES
        for accelerator in ACCELERATORS
        for cloud in CLOUDS
        if offered(load_yaml(CHART / f"clouds/{cloud}.yaml"), load_yaml(CHART / f"accelerators/{accelerator}.yaml"))
    }


def test_every_preset_is_a_yaml_file_with_its_sources():
    assert {p.suffix for p in PRESETS} == {".yaml"}
    for path in PRESETS:
        data = load_yaml(path)
        assert data["description"], relative(path)
        assert all(source["what"] and source["at"] for source in data["sources"]), relative(path)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_every_accelerator_is_offered_somewhere(accelerator):
    data = load_yaml(CHART / f"accelerators/{accelerator}.yaml")
    assert [cloud for cloud in CLOUDS if offered(load_yaml(CHART / f"clouds/{cloud}.yaml"), data)]


# One of the two kinds of templates that make no object of a kind they know.
KINDLESS = {"check", "extra"}


@pytest.mark.parametrize(
    "path", [p for p in TEMPLATES if p.suffix == ".yaml" and not KINDLESS & {*p.parts}], ids=relative
)
def test_every_template_is_rendered(path):
    """Some case (or a switch that is off everywhere, turned on here) makes an object of the template's kind."""
    kinds = set(re.findall(r"^kind: (\w+)", path.read_text(), flags=re.MULTILINE))
    assert kinds, "a template without a kind"
    everything = [o for case in cases() for o in case.objects]
    switched_on = {
        "debug": {"resolvedSpecs": True},
        "modelDefaults": {
            "monitoring": {"podMonitor": {"enabled": True}},
            "gateway": {"enabled": True, "endpointPicker": {"name": "picker", "port": 9002}},
        },
        "models": {
            "llama": {"gateway": {"parentRefs": [{"name": "public"}]}},
            "rerank": {"gateway": {"parentRefs": [{"name": "other"}], "grpcHostnames": ["rerank.example.com"]}},
        },
    }
    everything += render(switched_on, layers=[VALUES / "prod.yaml"])
    assert kinds <= {o["kind"] for o in everything}


# Values that are used and values that are documented.


def known_to_schema(dotted: str) -> bool:
    """Whether the schema of a model has a property at this path; inside a map of the user's own, anything goes."""
    node = SCHEMA["$defs"]["model"]
    for key in dotted.split("."):
        while "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].removeprefix("#/$defs/")]
        if key not in node.get("properties", {}):
            return "properties" not in node
        node = node["properties"][key]
    return True


def test_every_value_of_a_model_that_is_read_is_in_the_schema():
    """A path with a typo reads nothing, in silence."""
    paths = set(re.findall(r"(?:\$s|(?<!inference)\.spec)\.([A-Za-z]+(?:\.[A-Za-z]+)*)", SOURCE))
    derived = set(re.findall(r'set \$s(?:\.[A-Za-z.]+)? "([A-Za-z]+)"', SOURCE))  # added by resolve, see spec.tpl
    for runtime in RUNTIMES:
        data = load_yaml(CHART / f"runtimes/{runtime}.yaml")
        paths |= {value for path, value in walk(data) if path.endswith(".from")}
        derived |= {key for adds in data.get("engine", {}).get("precisions", {}).values() for key in adds}
    assert len(paths) > 40
    unknown = {path for path in paths if not known_to_schema(path)}
    assert {path for path in unknown if not derived & set(path.split("."))} == set()


def test_every_top_level_value_used_exists_and_is_used():
    values = load_yaml(CHART / "values.yaml")
    used = set(re.findall(r"\.Values\.([A-Za-z]+)", SOURCE))
    # Presets are looked up by kind: index .Values .kind.
    assert used - set(values) == set()
    assert set(values) - used == {"runtimes", "clouds"}
    assert "index .root.Values .kind" in SOURCE


def test_every_documented_value_is_used():
    """Each key of modelDefaults changes what is rendered, or is read by name in a template or a preset."""
    text = SOURCE + "\n".join(p.read_text() for kind in ("runtimes", "alerts") for p in (CHART / kind).iterdir())
    keys = {
        path.rsplit(".", 1)[-1]
        for path, _ in walk(load_yaml(CHART / "values.yaml")["modelDefaults"])
        if path != "$" and "[" not in path and ".tmp" not in path
    }
    # Handed through whole: probe numbers and the autoscaler's behaviour keep Kubernetes' own keys.
    verbatim = {"periodSeconds", "timeoutSeconds", "failureThreshold", "scaleUp", "scaleDown", "policies",
                "selectPolicy", "stabilizationWindowSeconds", "io/hostname", "io/zone"}  # fmt: skip
    assert {key for key in keys - verbatim if not re.search(rf"\b{key}\b", text)} == set()
