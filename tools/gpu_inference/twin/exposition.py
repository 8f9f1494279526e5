"""Prometheus' text format, written fast: a family that did not change since the last scrape is not rendered again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

Labels = tuple[tuple[str, str], ...]


def escape(value: str) -> str:
    """A label value as the text format wants it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def sample(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """`name{label="value",…}` with a trailing space, labels sorted as prometheus_client does."""
    inside = ",".join(f'{key}="{escape(value)}"' for key, value in sorted(labels))
    return f"{name}{{{inside}}} " if inside else f"{name} "


class Series:
    """One label set of a family. Subclasses hold its values."""

    __slots__ = ("family",)

    def __init__(self, family: Family) -> None:
        self.family = family

    def lines(self) -> list[str]:
        raise NotImplementedError

    def add(self, amount: float) -> None:
        raise TypeError(f"{self.family.name} is a {self.family.kind}: it cannot be added to")

    def set(self, value: float) -> None:
        raise TypeError(f"{self.family.name} is a {self.family.kind}: it cannot be set")

    def observe(self, value: float, times: int = 1) -> None:
        raise TypeError(f"{self.family.name} is a {self.family.kind}: it does not observe")

    def record(self, amount: float) -> None:
        """A measured amount: a counter adds it up, a histogram observes it."""
        raise NotImplementedError


class Number(Series):
    """A counter or a gauge."""

    __slots__ = ("prefix", "value")

    def __init__(self, family: Family, labels: Labels, value: float = 0.0) -> None:
        super().__init__(family)
        self.prefix = sample(family.name, labels)
        self.value = value

    def add(self, amount: float) -> None:
        self.value += amount
        self.family.text = None

    def set(self, value: float) -> None:
        if value != self.value:
            self.value = value
            self.family.text = None

    record = add

    def lines(self) -> list[str]:
        return [f"{self.prefix}{self.value!r}"]


class Summary(Series):
    """Count and sum, without quantiles."""

    __slots__ = ("count", "prefixes", "sum")

    def __init__(self, family: Family, labels: Labels) -> None:
        super().__init__(family)
        self.prefixes = (sample(f"{family.name}_count", labels), sample(f"{family.name}_sum", labels))
        self.count = self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.count += times
        self.sum += value * times
        self.family.text = None

    def record(self, amount: float) -> None:
        self.observe(amount)

    def lines(self) -> list[str]:
        return [f"{self.prefixes[0]}{self.count!r}", f"{self.prefixes[1]}{self.sum!r}"]


class Histogram(Summary):
    """Cumulative buckets, count and sum."""

    __slots__ = ("bounds", "bucket_prefixes", "counts")

    def __init__(self, family: Family, labels: Labels, bounds: tuple[float, ...]) -> None:
        super().__init__(family, labels)
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        edges = [repr(float(bound)) for bound in bounds] + ["+Inf"]
        self.bucket_prefixes = [sample(f"{family.name}_bucket", (*labels, ("le", edge))) for edge in edges]

    def observe(self, value: float, times: int = 1) -> None:
        super().observe(value, times)
        self.counts[bisect_left(self.bounds, value)] += times

    def lines(self) -> list[str]:
        total, lines = 0.0, []
        for prefix, count in zip(self.bucket_prefixes, self.counts, strict=True):
            total += count
            lines.append(f"{prefix}{total!r}")
        return lines + super().lines()


class Family:
    """A metric with its help, type and series; `created` is the time prometheus_client would put into
    <name>_created."""

    def __init__(
        self, name: str, kind: str, description: str, bounds: tuple[float, ...] = (), created: float = 0.0
    ) -> None:
        self.name, self.kind, self.bounds, self.created = name, kind, bounds, created
        self.description = description
        self.series: dict[Labels, Series] = {}
        self.text: str | None = None

    def add(self, labels: Labels, value: float = 0.0) -> Series:
        """The series of a label set, made when it is new."""
        if labels not in self.series:
            self.series[labels] = self._new(labels, value)
            self.text = None
        return self.series[labels]

    def _new(self, labels: Labels, value: float) -> Series:
        if self.kind == "histogram":
            return Histogram(self, labels, self.bounds)
        if self.kind == "summary":
            return Summary(self, labels)
        return Number(self, labels, value)

    def render(self) -> str:
        if self.text is None:
            lines = [f"# HELP {self.name} {self.description}"] if self.description else []
            lines.append(f"# TYPE {self.name} {self.kind}")
            for series in self.series.values():
                lines += series.lines()
            self.text = "\n".join([*lines, *self._created_lines(), ""])
        return self.text

    def _created_lines(self) -> list[str]:
        if not self.created or self.kind == "gauge" or not self.series:
            return []
        name = (self.name.removesuffix("_total") if self.kind == "counter" else self.name) + "_created"
        lines = [f"# HELP {name} {self.description}", f"# TYPE {name} gauge"]
        return lines + [f"{sample(name, labels)}{self.created!r}" for labels in self.series]


class Registry:
    """Families in order, and the feeds that count into them: one feed may reach several series, or none."""

    def __init__(self) -> None:
        self.families: list[Family] = []
        self._feeds: dict[str, list[Series]] = {}
        self._dynamic: dict[str, list[tuple[Family, Labels, tuple[str, ...]]]] = {}

    def connect(self, feed: str, series: Series) -> None:
        self._feeds.setdefault(feed, []).append(series)

    def connect_dynamic(self, feed: str, family: Family, constant: Labels, names: Iterable[str]) -> None:
        """Series of this family appear when `feed` is first counted with their label values."""
        self._dynamic.setdefault(feed, []).append((family, constant, tuple(names)))

    def add(self, feed: str, amount: float = 1) -> None:
        for series in self._feeds.get(feed, ()):
            series.add(amount)

    def set(self, feed: str, value: float) -> None:
        for series in self._feeds.get(feed, ()):
            series.set(value)

    def observe(self, feed: str, value: float, times: int = 1) -> None:
        for series in self._feeds.get(feed, ()):
            series.observe(value, times)

    def record(self, feed: str, value: float) -> None:
        for series in self._feeds.get(feed, ()):
            series.record(value)

    def dynamic(self, feed: str, labels: Mapping[str, str]) -> list[Series]:
        """The series of this feed with these label values; names a family does not have are left out."""
        found = self._dynamic.get(feed, ())
        return [family.add((*constant, *((name, labels[name]) for name in names))) for family, constant, names in found]

    def render(self) -> bytes:
        """The exposition of all families that have series."""
        return "".join(family.render() for family in self.families).encode()
