"""Reading traces, the synthetic one against the published figures, and the part of a trace that is replayed."""

from __future__ import annotations

import io

import numpy
import pytest

from gpu_inference.errors import UserError
from gpu_inference.load import traces, window
from gpu_inference.load.traces import Arrival, Trace

FORMATS = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9995900,396,109",
    "azure-2024": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.009930+00:00,374,44\n2024-05-10 00:00:04.328930+00:00,396,109\n",
    "mooncake": '{"timestamp": 1000, "input_length": 374, "output_length": 44, "hash_ids": [1]}\n'
    '{"timestamp": 5319, "input_length": 396, "output_length": 109, "hash_ids": [1, 2]}\n',
    "burstgpt": "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,0,1.2,ChatGPT,374,44,418,API log\n"
    "7,1,0.1,ChatGPT,10,0,10,API log\n9.319,2,3.1,GPT-4,396,109,505,Conversation log\n",
    "plain": "time,input,output\n4.319,396,109\n0,374,44\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_the_same(tmp_path, name):
    path = tmp_path / "trace"
    path.write_bytes(FORMATS[name].encode())
    first, second = traces.read(path)
    assert first == Arrival(0.0, 374, 44)
    assert second == Arrival(pytest.approx(4.319), 396, 109)


def test_mooncake_written_is_read_back(tmp_path):
    rows = (Arrival(0.0, 7, 3), Arrival(1.234, 9000, 1))
    out = io.StringIO()
    traces.write_mooncake(rows, out)
    path = tmp_path / "trace.jsonl"
    path.write_text(out.getvalue())
    assert traces.read(path) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n", "trace:1: no known trace format: columns a, b, c"),
        ("", "no known trace format: columns none"),
        ("time,input,output\n0,1,1\nnoon,1,1\n", "trace:3: not a row of this trace"),
        ("time,input,output\n0,1\n", "trace:2: not a row of this trace"),
        ("time,input,output\nnan,1,1\n", "trace:2: a time that is not finite"),
        ("time,input,output\n0,-4,1\n", "trace:2: a time that is not finite or a negative number"),
        ("time,input,output\n0,5,0\n", "has no requests"),
        ('{"timestamp": 0}\n', "trace:1: not a row of a Mooncake trace"),
        ("{nonsense\n", "trace:1: not a row of a Mooncake trace"),
    ],
)
def test_bad_traces_are_named(tmp_path, text, message):
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        traces.read(path)


def test_missing_trace_is_a_usage_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the trace .*No such file"):
        traces.choose(str(tmp_path / "none.csv"))


def test_without_the_recording_the_default_is_synthetic(tmp_path, monkeypatch):
    monkeypatch.setenv("GPU_INFERENCE_TRACES", str(tmp_path))
    assert traces.choose(None).name == "synthetic"
    with pytest.raises(UserError, match="not on this machine"):
        traces.choose("conversation")


def assert_published_figures(trace: Trace) -> None:
    """The figures of the recorded hour, within what a seed may move them."""
    times = numpy.array([a.time for a in trace.arrivals])
    gaps = numpy.diff(times)
    assert len(times) / trace.duration == pytest.approx(5.53, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, abs=0.04)
    minutes = numpy.histogram(times, numpy.arange(0, 3481, 60))[0] / 60
    assert 3.0 < minutes.min() < 4.5
    assert minutes.max() == pytest.approx(8.5, rel=0.1)
    for lengths, p50, p99 in (("input", 1020, 4142), ("output", 129, 601)):
        got = numpy.percentile([getattr(a, lengths) for a in trace.arrivals], [50, 99])
        assert got == pytest.approx([p50, p99], rel=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_synthetic_trace_has_the_published_figures(seed):
    assert_published_figures(traces.choose("synthetic", seed))


def test_recorded_trace_has_the_published_figures():
    if traces.recorded_conversation() is None:
        pytest.skip(f"{traces.CONVERSATION} is not on this machine (GPU_INFERENCE_TRACES)")
    trace = traces.choose("conversation")
    assert len(trace.arrivals) == 19366
    assert_published_figures(trace)


def test_synthetic_trace_depends_on_its_seed_alone():
    assert traces.choose("synthetic", 5) == traces.choose("synthetic", 5)
    assert traces.choose("synthetic", 5) != traces.choose("synthetic", 6)


def evenly(count: int, gap: float = 1.0) -> Trace:
    return Trace("even", "test", tuple(Arrival(i * gap, 10, 5) for i in range(count)))


def test_rising_window_is_the_rise():
    slow = [Arrival(float(t), 1, 1) for t in range(100)]
    fast = [Arrival(100 + t / 10, 1, 1) for t in range(1000)]
    trace = Trace("step", "test", tuple(slow + fast))
    assert window.rising_start(trace, 60) == 70  # the step in the middle
    assert window.rising_start(evenly(10), 60) == 0  # longer than the trace


@pytest.mark.parametrize("rate", [0.25, 1, 1.5, 3])
def test_rate_multiplies_arrivals(rate):
    chosen = window.select(evenly(4000, 0.1), duration=300, rate=rate, start=20)
    assert len(chosen) == pytest.approx(3000 * rate, rel=0.07)
    assert all(0 <= a.time <= 300 for a in chosen)
    assert chosen == sorted(chosen)
    # Spread like the original: no half has more than its share.
    assert sum(a.time < 150 for a in chosen) == pytest.approx(len(chosen) / 2, rel=0.1)


def test_rate_one_is_the_trace_itself():
    assert [a.time for a in window.select(evenly(100), duration=10, start=5)] == [float(t) for t in range(10)]


def test_nothing_to_replay_is_an_error():
    with pytest.raises(UserError, match="no request of the trace even"):
        window.select(evenly(10), duration=5, start=100)


def test_clip_keeps_requests_within_the_context():
    clipped, count = window.clip([Arrival(0, 100, 20), Arrival(1, 5000, 300), Arrival(2, 10, 9000)], 4096)
    assert clipped == [Arrival(0, 100, 20), Arrival(1, 3796, 300), Arrival(2, 1, 4095)]
    assert count == 2
