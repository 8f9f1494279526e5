"""Reads a values file as Helm reads it and keeps every position; what is wrong with the text becomes a Problem, never
an exception.

Helm decodes with go.yaml.in/yaml v2.4.4 (decode.go): merge keys are applied where they stand, a later duplicate wins,
only the first document counts (Helm 3; Helm 4 merges all documents, so a second one is a problem here), keys that are
no strings become strings.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

import yaml

from gpu_inference.errors import UserError
from gpu_inference.values.scalars import Scalar, ScalarError, resolve, resolve_key
from gpu_inference.values.tree import Path, Position, Tree

# Values nest ten levels deep, and libyaml gives up at 1000 by exhausting the stack of whatever walks the result.
MAX_DEPTH = 100
# Keys and values a document may have, and what aliases may make of them.
MAX_NODES = 100_000
# Bytes a file may have: what Helm takes of a chart's file (MaxDecompressedFileSize in pkg/chart/loader/archive, Helm
# 4.3.1). A release is kept in a Secret, of 1 MiB at most and compressed, so larger values cannot be installed.
MAX_BYTES = 5 * 1024 * 1024
# Characters of all scalars together after aliases.
MAX_CHARACTERS = 2 * MAX_BYTES

# C0 controls except tab, newline and carriage return, and the other characters YAML forbids: libyaml names them
# without a position.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a file's text. `rule` is an id such as `duplicate-key`."""

    rule: str
    message: str
    fix: str
    at: Position
    path: Path = ()


@dataclass(slots=True)
class Document:
    """A values file: its tree, its problems and its lines. `complete` is false where a problem ended the reading; the
    tree is empty then."""

    file: str
    tree: Tree
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True
    lines: list[str] = field(default_factory=list)


def load(path: FilePath) -> Document:
    """The values of a file, `-` for standard input. UserError if it cannot be read at all."""
    if str(path) == "-":
        return parse(sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>")
    try:
        with path.open("rb") as file:
            return parse(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read {path}: {reason}", fix="name a file that exists and can be read") from error


def parse(content: bytes, file: str, first_line: int = 1) -> Document:
    """The values in a file's bytes; `file` is what positions say, and the content begins at its line `first_line`."""
    if len(content) > MAX_BYTES:
        at = Position(file, 1, 1)
        problem = Problem("size", f"larger than {MAX_BYTES >> 20} MiB, which no release can be", "split it", at)
        return Document(file, Tree({}, at), [problem], complete=False)
    return _Parser(file, first_line).document(content)


class _Failure(Exception):
    """Nothing can be read past this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Node:
    """A node before aliases and merge keys are resolved. `content` is a scalar's text, an alias's target or the
    children."""

    kind: str
    event: Any
    content: Any


class _Parser:
    def __init__(self, file: str, first_line: int = 1) -> None:
        self.file = file
        self.first_line = first_line
        self.problems: list[Problem] = []
        self.count = 0
        self.characters = 0

    def document(self, content: bytes) -> Document:
        tree = Tree({}, self._start())
        complete = True
        try:
            root = self._compose(self._decode(content))
            if root is not None:
                tree = self._root(root)
        except _Failure as failure:
            self.problems.append(failure.problem)
            complete = False
        # What an alias repeats has one cause, written once.
        unique = {(problem.rule, problem.at): problem for problem in reversed(self.problems)}
        lines = content.decode("utf-8-sig", errors="replace").split("\n")
        return Document(self.file, tree, list(reversed(unique.values())), complete, lines)

    def _fail(self, rule: str, message: str, fix: str, at: Position, path: Path = ()) -> _Failure:
        return _Failure(Problem(rule, message, fix, at, path))

    def _at(self, mark: Any) -> Position:
        return Position(self.file, mark.line + self.first_line, mark.column + 1)

    def _start(self) -> Position:
        return Position(self.file, self.first_line, 1)

    def _decode(self, content: bytes) -> str:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode("utf-8-sig")
            raise self._fail(
                "encoding",
                f"byte 0x{content[error.start]:02x} is not UTF-8",
                "save the file as UTF-8",
                self._end(before),
            ) from error
        bad = _UNPRINTABLE.search(text)
        if bad:
            message = f"control character U+{ord(bad.group()):04X} is not allowed in YAML"
            raise self._fail(
                "encoding",
                message,
                "remove it, or write it as an escape in double quotes",
                self._end(text[: bad.start()]),
            )
        return text

    def _end(self, text: str) -> Position:
        return Position(self.file, text.count("\n") + self.first_line, len(text) - text.rfind("\n"))

    # Parsing: events to nodes -----------------------------------------------------------------------------------

    def _compose(self, text: str) -> _Node | None:
        """The node of the first document. libyaml's events carry what goyaml's decoder looks at: tag, implicit and
        position."""
        roots: list[_Node] = []
        open_nodes: list[_Node] = []
        anchors: dict[str, _Node] = {}
        count = 0
        try:
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                if isinstance(event, yaml.DocumentStartEvent):
                    anchors = {}
                    if event.version not in (None, (1, 1)):
                        raise self._fail(
                            "syntax", "Helm reads YAML 1.1 only", "remove the %YAML line", self._at(event.start_mark)
                        )
                elif isinstance(event, yaml.CollectionEndEvent):
                    open_nodes.pop()
                elif isinstance(event, yaml.NodeEvent):
                    count += 1
                    if count > 2 * MAX_NODES:  # keys are nodes, too
                        raise self._fail(
                            "size", f"more than {MAX_NODES} values", "split it", self._at(event.start_mark)
                        )
                    node = self._node(event, anchors)
                    (open_nodes[-1].content if open_nodes else roots).append(node)
                    if node.kind in ("map", "list"):
                        open_nodes.append(node)
                    if len(open_nodes) > MAX_DEPTH:
                        raise self._fail(
                            "depth",
                            f"nested deeper than {MAX_DEPTH} levels",
                            "flatten the values",
                            self._at(event.start_mark),
                        )
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from error
        except yaml.YAMLError as error:
            raise self._fail("syntax", str(error).splitlines()[0], "correct the YAML", self._start()) from error
        self._check_rest(roots)
        return roots[0] if roots else None

    def _node(self, event: Any, anchors: dict[str, _Node]) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise self._fail(
                    "alias",
                    f"no anchor `&{event.anchor}` before this alias",
                    "define the anchor first",
                    self._at(event.start_mark),
                )
            return _Node("alias", event, anchors[event.anchor])
        if isinstance(event, yaml.ScalarEvent):
            node = _Node("scalar", event, event.value)
        else:
            node = _Node("map" if isinstance(event, yaml.MappingStartEvent) else "list", event, [])
        if event.anchor:
            anchors[event.anchor] = node
        return node

    def _syntax(self, error: yaml.MarkedYAMLError) -> _Failure:
        mark = error.problem_mark or error.context_mark
        at = self._at(mark) if mark else self._start()
        problem = error.problem or "not YAML"
        if "\\t" in problem or "that cannot start any token" in problem:
            return self._fail(
                "syntax",
                f"{problem} (a tab, or a reserved character such as @ or `)",
                "indent with spaces; quote the value",
                at,
            )
        context = f" {error.context}" if error.context else ""
        return self._fail("syntax", f"{problem}{context}", "check indentation, colons and quotes at this place", at)

    def _check_rest(self, roots: list[_Node]) -> None:
        extra = next((node for node in roots[1:] if not self._is_empty(node)), None)
        if extra:
            message = "a second document: Helm 3 ignores it, Helm 4 merges it"
            self.problems.append(
                Problem("documents", message, "keep one document in a values file", self._at(extra.event.start_mark))
            )

    def _is_empty(self, node: _Node) -> bool:
        return node.kind == "scalar" and node.event.implicit[0] and self._scalar(node, ()) is None

    # Decoding: nodes to trees -----------------------------------------------------------------------------------

    def _root(self, node: _Node) -> Tree:
        tree = self._tree(node, (), frozenset())
        if tree.value is None:
            return replace(tree, value={})
        if not isinstance(tree.value, dict):
            raise self._fail(
                "type", "a values file is a map of keys to values", "write `key: value` lines at the top level", tree.at
            )
        return tree

    def _expand(self, node: _Node, path: Path, aliases: frozenset[int]) -> None:
        """Counts a node, and ends the reading of a document that aliases make too large or too deep."""
        self.count += 1
        self.characters += len(node.content) if node.kind == "scalar" else 0
        at = self._at(node.event.start_mark)
        if self.count > MAX_NODES or self.characters > MAX_CHARACTERS:
            what = f"{MAX_NODES} values" if self.count > MAX_NODES else f"{MAX_CHARACTERS >> 20} MiB"
            raise self._fail("alias", f"expands to more than {what}", "use fewer aliases of aliases", at, path)
        if len(path) > MAX_DEPTH or len(aliases) > MAX_DEPTH:
            raise self._fail("depth", f"nested deeper than {MAX_DEPTH} levels", "flatten the values", at, path)

    def _tree(self, node: _Node, path: Path, aliases: frozenset[int]) -> Tree:
        self._expand(node, path, aliases)
        at = self._at(node.event.start_mark)
        if node.kind == "alias":
            if id(node.content) in aliases:
                raise self._fail("alias", f"anchor `{node.event.anchor}` contains itself", "break the circle", at, path)
            return replace(self._tree(node.content, path, aliases | {id(node.content)}), at=at)
        if node.kind == "scalar":
            return Tree(self._scalar(node, path), at)
        if node.kind == "list":
            return Tree([self._tree(child, (*path, index), aliases) for index, child in enumerate(node.content)], at)
        return Tree(self._map(node, path, aliases), at)

    def _scalar(self, node: _Node, path: Path, meaning: Callable[[str, str | None, bool], Scalar] = resolve) -> Scalar:
        try:
            return meaning(node.content, node.event.tag, node.event.implicit[0])
        except ScalarError as error:
            raise self._fail(
                "scalar", str(error), "quote it if it is text", self._at(node.event.start_mark), path
            ) from error

    def _map(self, node: _Node, path: Path, aliases: frozenset[int]) -> dict[str, Tree]:
        result: dict[str, Tree] = {}
        written: dict[str, Position] = {}
        for key_node, value_node in zip(node.content[::2], node.content[1::2], strict=True):
            if self._is_merge(key_node):
                self._merge(result, value_node, path, aliases)
                continue
            key_at = self._at(key_node.event.start_mark)
            key = self._key(key_node, path, key_at)
            if key in written:
                message = f"key `{key}` is written twice, first in line {written[key].line}; Helm takes the last"
                self.problems.append(Problem("duplicate-key", message, "remove one of the two", key_at, (*path, key)))
            written[key] = key_at
            result[key] = replace(self._tree(value_node, (*path, key), aliases), key_at=key_at)
        return result

    def _key(self, node: _Node, path: Path, at: Position) -> str:
        target = node.content if node.kind == "alias" else node
        if target.kind != "scalar":
            raise self._fail("key", "a map or list cannot be a key", "use a plain word as the key", at, path)
        value = self._scalar(target, path, resolve_key)
        if value is None:
            raise self._fail("key", "the key is null, which Helm refuses", "quote the key", at, path)
        if isinstance(value, str):
            return value
        # sigs.k8s.io/yaml makes `true` of `on`, rewrites floats and refuses huge integers; a plain integer stays as
        # it is.
        key = str(value).lower() if isinstance(value, bool) else target.content
        if isinstance(value, int) and str(value) == key and value < 2**63:
            return key
        message = f"key `{target.content}` is a {'boolean' if isinstance(value, bool) else 'number'} to Helm, not text"
        self.problems.append(Problem("key", message, f'quote it: "{target.content}"', at, (*path, key)))
        return key

    def _is_merge(self, node: _Node) -> bool:
        tag = node.event.tag if node.kind == "scalar" else ""
        return (
            node.kind == "scalar"
            and node.content == "<<"
            and (node.event.implicit[0] or tag == "tag:yaml.org,2002:merge")
        )

    def _merge(self, into: dict[str, Tree], node: _Node, path: Path, aliases: frozenset[int]) -> None:
        """goyaml v2 writes the merged keys where `<<` stands: over keys above it, under keys below it; of a list the
        first wins."""
        sources = list(reversed(node.content)) if node.kind == "list" else [node]
        for source in sources:
            target = source.content if source.kind == "alias" else source
            at = self._at(source.event.start_mark)
            if target.kind != "map":
                raise self._fail("merge", "`<<` takes a map or a list of maps", "merge an alias of a map", at, path)
            if id(target) in aliases:
                raise self._fail("alias", "a map merges itself", "break the circle", at, path)
            self._expand(target, path, aliases)
            into.update(self._map(target, path, aliases | {id(target)}))
