"""What the loader says about text that is wrong, and where it says it is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from gpu_inference.errors import UserError
from gpu_inference.values.loader import MAX_DEPTH, load, parse
from gpu_inference.values.tree import Position, format_path


def problems(text: str | bytes) -> list[tuple[str, int, int]]:
    content = text if isinstance(text, bytes) else text.encode()
    return [(problem.rule, problem.at.line, problem.at.column) for problem in parse(content, "t.yaml").problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", [("duplicate-key", 4, 3)]),
        ("a: {b: 1, c: 2, b: 3}\n", [("duplicate-key", 1, 17)]),
        ("a: 1\na: 2\na: 3\n", [("duplicate-key", 2, 1), ("duplicate-key", 3, 1)]),
        ("p: &p {n: 1}\nq: {<<: *p, n: 2}\n", [("key", 1, 8), ("key", 2, 13)]),
        ("off: 1\n", [("key", 1, 1)]),
        ("1.50: a\n", [("key", 1, 1)]),
        ("8080: a\n", []),
        ("~: 1\n", [("key", 1, 1)]),
        ("? [1]\n: 2\n", [("key", 1, 3)]),
        ("a:\n\tb: 1\n", [("syntax", 2, 1)]),
        ("a: [1\nb: 2\n", [("syntax", 2, 2)]),
        ("%YAML 1.2\n---\na: 1\n", [("syntax", 1, 1)]),
        ("a: 1\n---\nb: 2\n", [("documents", 3, 1)]),
        ("---\na: 1\n---\n# nothing\n", []),
        (b"a: 1\nb: \xff\n", [("encoding", 2, 4)]),
        ("a: \x01\n", [("encoding", 1, 4)]),
        ("a: .inf\n", [("scalar", 1, 4)]),
        ("a: !!int x\n", [("scalar", 1, 4)]),
        ("a: *b\n", [("alias", 1, 4)]),
        ("a: &a [*a]\n", [("alias", 1, 8)]),
        ("a: {<<: 1}\n", [("merge", 1, 9)]),
        ("- 1\n", [("type", 1, 1)]),
        ("", []),
        ("null\n", []),
    ],
)
def test_problems(text, expected):
    assert problems(text) == expected


def test_duplicates_name_both_places():
    (problem,) = parse(b"a: 1\nb: 2\na: 3\n", "t.yaml").problems
    assert "line 1" in problem.message
    assert problem.at == Position("t.yaml", 3, 1)
    assert problem.path == ("a",)


def test_positions_of_keys_and_values():
    tree = parse(b"models:\n  chat:\n    args: [x, y]\n", "t.yaml").tree
    found = {format_path(path): (str(node.key_at), str(node.at)) for path, node in tree.walk()}
    assert found["$.models.chat"] == ("t.yaml:2:3", "t.yaml:3:5")
    assert found["$.models.chat.args[1]"] == ("None", "t.yaml:3:15")


def test_nearest_ancestor_stands_for_what_is_missing():
    tree = parse(b"a: {b: 1}\n", "t.yaml").tree
    assert tree.find(("a", "x", "y")).at == Position("t.yaml", 1, 4)


def test_a_column_counts_characters():
    assert problems("ä: {ö: 1, ö: 2}\n") == [("duplicate-key", 1, 11)]


def test_depth_is_bounded():
    assert problems("a: " + "[" * 50 + "]" * 50) == []
    assert [rule for rule, *_ in problems("[" * 100_000)] == ["depth"]
    assert [rule for rule, *_ in problems("\n".join(" " * n + "a:" for n in range(MAX_DEPTH + 5)))] == ["depth"]


def test_aliases_are_bounded():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 15))
    assert [rule for rule, *_ in problems(bomb)] == ["alias"]


def test_reads_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a: 1\n")))
    document = load(Path("-"))
    assert (document.file, document.tree.plain()) == ("<stdin>", {"a": 1})


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_unreadable(tmp_path, name):
    with pytest.raises(UserError, match="cannot read") as caught:
        load(tmp_path / name)
    assert caught.value.exit_code == 2
