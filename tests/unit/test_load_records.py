"""From records to percentiles and the service level, against figures computed another way."""

from __future__ import annotations

import random

import numpy
import pytest

from gpu_inference.load import records, text
from gpu_inference.load.records import SLO, Record


def sample(count: int, seed: int = 0) -> list[Record]:
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        ttft, output = rng.lognormvariate(0, 1), rng.randint(1, 40)
        gaps = [rng.lognormvariate(-2.5, 0.5) for _ in range(output - 1)]
        failed = rng.random() < 0.1
        record = Record("llm", i / 5, i / 5 + rng.random() / 100, 100, output, ttft, ttft + sum(gaps), gaps)
        rows.append(Record("llm", i / 5, i / 5, 100, error="HTTP 500") if failed else record)
    return rows


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1001])
def test_percentiles_are_numpys(count):
    values = sorted(random.Random(count).random() for _ in range(count))
    for percent in (0, 1, 50, 90, 95, 99, 100):
        assert records.percentile(values, percent) == pytest.approx(numpy.percentile(values, percent))


def test_summary_against_numpy():
    rows = sample(400)
    got = records.summarize(rows, SLO(1.5, 0.1))
    ok = [r for r in rows if r.error is None]
    assert got["requests"] == {"total": 400, "ok": len(ok), "failed": 400 - len(ok)}
    assert got["errors"] == {"HTTP 500": 400 - len(ok)}
    for key, values in {
        "ttft_s": [r.ttft for r in ok],
        "itl_s": numpy.concatenate([r.gaps for r in ok]),
        "tpot_s": [numpy.mean(r.gaps) for r in ok if r.output > 1],
        "e2e_s": [r.e2e for r in ok],
        "send_lag_s": [r.sent - r.due for r in rows],
    }.items():
        expected = [numpy.mean(values), *numpy.percentile(values, [50, 90, 95, 99]), numpy.max(values)]
        assert list(got[key].values()) == pytest.approx(expected, abs=1e-5), key
    assert got["tokens"]["output"] == sum(r.output for r in ok)


def test_attainment_counts_failures_and_both_targets():
    good = Record("m", 0, 0, 10, 3, 1.0, 1.2, [0.1, 0.1])
    late = Record("m", 1, 1, 10, 3, 2.5, 2.7, [0.1, 0.1])
    slow = Record("m", 2, 2, 10, 3, 1.0, 1.6, [0.3, 0.3])
    short = Record("m", 3, 3, 10, 1, 1.0, 1.0, [])
    failed = Record("m", 4, 4, 10, 0, 0.5, 6.0, [], "HTTP 500")
    got = records.attainment([good, late, slow, short, failed], SLO(2.0, 0.1), seconds=10)
    assert got["attainment"] == 0.4
    assert got["goodput_rps"] == 0.2
    assert not got["met"]
    assert records.attainment([good, short], SLO(2.0, 0.1), seconds=10)["met"]


def test_targets_are_inclusive_and_tpot_is_a_mean():
    record = Record("m", 0, 0, 1, 3, 2.0, 2.2, [0.19, 0.01])  # one slow gap, mean on the target
    assert SLO(2.0, 0.1).met_by(record)
    assert not SLO(1.999, 0.1).met_by(record)
    assert not SLO(2.0, 0.099).met_by(record)


def test_a_slow_generator_is_reported():
    rows = [Record("m", 0, 0.5, 1, 2, 0.1, 0.2, [0.1])]
    got = records.summarize(rows, SLO())
    assert got["generator_kept_up"] is False
    assert "the generator was too slow" in text.summary(got)


def test_nothing_measured_is_not_a_service_level():
    got = records.summarize([], SLO())
    assert got["slo"]["attainment"] is None
    assert got["slo"]["met"] is False
    assert got["ttft_s"] is None


def test_records_survive_the_file(tmp_path):
    rows = sample(20)
    path = tmp_path / "r.jsonl"
    path.write_text("".join(records.to_line(r) + "\n" for r in rows))
    back = records.read(path)
    assert [r.error for r in back] == [r.error for r in rows]
    assert [r.gaps for r in back] == [pytest.approx(r.gaps, abs=1e-5) for r in rows]
    assert records.summarize(back, SLO())["slo"]["attainment"] == records.summarize(rows, SLO())["slo"]["attainment"]
