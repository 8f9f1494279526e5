"""The disruptions' results as JSON, as Markdown, and as the table of README.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
HEAD = (
    "| disruption | sent | failed | lost with the server | slowest, s | pods replaced | restarts | recovered in, s |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|\n"
)


def dump(rows: Iterable[Mapping[str, Any]]) -> str:
    """As it is committed: sorted, a scenario a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in sorted(rows, key=lambda row: row["scenario"]))
    return f"[\n{lines}\n]\n"


def collect(folder: Path) -> list[dict[str, Any]]:
    """The rows that the disruptions have left in a folder, in order of their names."""
    files = [path for path in folder.glob("*.json") if path.name != "results.json"]
    return sorted((row for path in files for row in json.loads(path.read_text())), key=lambda row: row["scenario"])


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """A line a scenario, mutations apart: they are expected to fail."""
    rows = list(rows)
    parts = [(HEAD, [r for r in rows if not r["scenario"].startswith("mutation-")])]
    mutated = [r for r in rows if r["scenario"].startswith("mutation-")]
    if mutated:
        parts.append((HEAD.replace("| disruption |", "| mutation |"), mutated))
    text = "\n".join(head + "".join(map(_line, some)) for head, some in parts)
    normal = parts[0][1]
    sent, failed = (sum(row[key] for row in normal) for key in ("sent", "failed"))
    return f"{sum(1 for _ in normal)} disruptions, {sent} requests, {failed} failed.\n\n{text}"


def _line(row: Mapping[str, Any]) -> str:
    recovered = "" if row["recovered"] is None else f"{row['recovered']:.0f}"
    cells = (row["about"], row["sent"], row["failed"], row["lost"], f"{row['slowest']:.1f}", row["replaced"])
    return f"| {' | '.join(map(str, (*cells, row['restarts'], recovered)))} |\n"


def with_table(readme: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """README.md with the results' table in its place."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table(rows)}{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(), json.loads(RESULTS.read_text())))
