"""The loader and the merge against the helm binary itself: the same data from the same text, on both majors.

One helm call takes many documents: a chart of one template prints `fromYaml` of each of its files, which is the decoder
of values files too, and all of `.Values`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.render import MAJORS, helm

from gpu_inference.values.loader import parse
from gpu_inference.values.merge import helm_values

CHART = "apiVersion: v2\nname: probe\nversion: 0.1.0\n"
TEMPLATE = """\
{{- range $path, $_ := .Files.Glob "documents/*" }}
{{ $path | base | quote }}: {{ $.Files.Get $path | fromYaml | toJson | quote }}
{{- end }}
values: {{ toJson .Values | quote }}
"""
# What goyaml reads and libyaml refuses; refusing is safe.
STRICTER = frozenset(("{a:,b:}",))

WORDS = """
n y N Y yes no on off On OFF true True tRue null ~ Null NULL nULL 1e3 1E3 1e+3 0o777 0777 0778 0O17 0b11 0B1 -0b11 0x1F
0X1f -0x1f +0x1 12:30:45 1:2 1_000 _1 1__0 1_ 0_7 +12 -12 +-3 1.5 1. .5 -.5 +.5 .5e3 .e3 . .. ... 1e400 .1e400 1e-400
18446744073709551615 18446744073709551616 9223372036854775808 9007199254740993 -9223372036854775809 2001-01-01
2001-01-01T00:00:00Z 1e21 123456789012345678901234567890 0x 0b 0o 08 00 0 -0 -0.0 1e0 1.0 12e03 1,000 0xg 1e 1e+ +1e3
-1E-2 1.5_0 .5_0 .5__0 1_.5 0x1_F << = - -- --- abc a#b a:b {a:b} [a,b] {a:,b:} ? |- > 0.1 1e-7 1.50 Infinity inf nan
.nan .inf -.INF 0b102 0x1p4 +0b1 -0777 +08 09.5 1e3_0 "\\x41" 'a''b' "a\\nb" "1" '0x1f' "yes" "" '' @x `x %x *x &x !x
"""
SCALARS = WORDS.split()
TAGGED = [
    '!!str 1', '!!int "1"', "!!int '0x1f'", "!!float 1", "!!bool yes", "!!null ~", "!foo bar", "!!binary aGk=", "! 12",
    '! "12"', "!!int abc", "!!float abc", "!!int 3.0", "!!bool 1", "!!binary '@@'", "!!null x",
]  # fmt: skip
DOCUMENTS = [
    *(f"a: {scalar}\n" for scalar in SCALARS + TAGGED),
    *(f"{scalar}: v\n" for scalar in SCALARS),
    "a: 1\na: 2\n",
    "b: &x {c: 1, d: 2}\ne: {c: 9, <<: *x}\nf: {<<: *x, c: 9}\n",
    "p: &p {a: 1}\nq: &q {a: 2, b: 3}\nr: {<<: [*p, *q]}\n",
    "a: {<<: {b: 1}}\n",
    "a: {<<: [{b: 1}, {b: 2}]}\n",
    "b: &x [1]\ne: {<<: *x}\n",
    "'<<': {a: 1}\n",
    "a: &x {b: *x}\n",
    "a: *b\n",
    "&k a: 1\nb: *k\n*k : 2\n",
    "a: |\n  x\n  y\nb: >\n  x\n  y\n",
    "a: 'x\n  y'\n",
    "a: x\n b: y\n",
    "? a\n: b\n",
    "? [a]\n: b\n",
    "~: 1\n",
    "a: {b, c}\n",
    "a: [b: c]\n",
    "a: [1,,2]\n",
    "a: {x: 1,}\n",
    "a: !!set {x, y}\n",
    "a: \t1\n",
    "\ta: 1\n",
    "a: 1\n\tb: 2\n",
    "a: \u00e9\n",
    "\ufeffa: 1\n",
    "a: 1\r\nb: 2\r\n",
    "a: \x7f\n",
    "a: \U0001f600\n",
    "%YAML 1.1\n---\na: 1\n",
    "%YAML 1.2\n---\na: 1\n",
    "%TAG ! tag:x,2000:\n---\na: !b c\n",
    "--- \na: 1\n...\n",
    "",
    "# nothing\n",
    "- 1\n",
    "text\n",
    "a: '\n",
    "a: b: c\n",
    'a: "\\q"\n',
]


def probe(major: int, documents: list[str], defaults: dict, layers: list[dict]) -> tuple[list, dict]:
    """What helm makes of each document (None where it refuses it) and of the layers over the defaults."""
    with tempfile.TemporaryDirectory(prefix="gpu-inference-probe-") as folder:
        chart = Path(folder)
        for name in ("templates", "documents"):
            (chart / name).mkdir()
        (chart / "Chart.yaml").write_text(CHART)
        (chart / "templates" / "all.yaml").write_text(TEMPLATE)
        (chart / "values.yaml").write_text(json.dumps(defaults))
        for index, text in enumerate(documents):
            (chart / "documents" / f"{index:04}").write_bytes(text.encode())
        files = []
        for index, layer in enumerate(layers):
            files.append(chart / f"layer-{index}.yaml")
            files[-1].write_text(json.dumps(layer))
        printed = helm(major).template("probe", chart, layers=files)[0]
    values = json.loads(printed.pop("values"))
    read = [json.loads(printed[f"{index:04}"]) for index in range(len(documents))]
    return [None if set(data) == {"Error"} else data for data in read], values


def canonical(data) -> str:
    """Text that is equal for equal data; Go prints large floats as rounded integers."""
    return json.dumps(json.loads(json.dumps(data), parse_int=float), sort_keys=True)


def assert_same(documents: list[str], from_helm: list) -> None:
    for text, theirs in zip(documents, from_helm, strict=True):
        document = parse(text.encode(), "probe")
        if theirs is None:
            assert document.problems, f"helm refuses {text!r}"
        elif not document.problems:
            assert canonical(document.tree.plain()) == canonical(theirs), repr(text)
        elif not document.complete:
            raise AssertionError(f"helm reads {text!r} as {theirs}: {document.problems[0].message}")


@pytest.mark.parametrize("major", MAJORS)
def test_documents(major):
    documents = [text for text in DOCUMENTS if not any(word in text for word in STRICTER)]
    assert_same(documents, probe(major, documents, {}, [])[0])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.text("0123456789.eE+-_xobaf", min_size=1, max_size=7), min_size=150, max_size=150))
def test_generated_numbers(texts):
    documents = [f"a: {text}\n" for text in texts]
    assert_same(documents, probe(4, documents, {}, [])[0])


keys = st.sampled_from(["a", "b", "c"])
leaves = st.one_of(st.integers(0, 3), st.booleans(), st.just(""), st.lists(st.integers(0, 2), max_size=2))


def maps(leaf):
    return st.dictionaries(
        keys, st.recursive(leaf, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=5)
    )


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.tuples(maps(leaves), *[maps(leaves | st.none())] * 3), min_size=60, max_size=60))
def test_merge(cases):
    """Defaults and three layers with nulls; each case once below a key of its own and the first at the top."""
    stacked = [
        {f"case{index}": case[level] for index, case in enumerate(cases)} | cases[0][level] for level in range(4)
    ]
    trees = [parse(json.dumps(level).encode(), f"layer-{index}").tree for index, level in enumerate(stacked)]
    ours = helm_values(trees[0], trees[1:]).plain()
    for major in MAJORS:
        assert canonical(ours) == canonical(probe(major, [], stacked[0], stacked[1:])[1]), major
