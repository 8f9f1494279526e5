"""The demo's pure parts: what a sample says, what passes, what is written, what is said when it cannot be."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gpu_inference.cli import main
from gpu_inference.demo import environment, observe, report
from gpu_inference.demo.observe import Sample
from gpu_inference.demo.result import Result, at_minimum, checks, gpu_hours, scaling, summary
from gpu_inference.demo.scenario import autoscaled
from gpu_inference.demo.view import LiveView, View, sparkline
from gpu_inference.errors import UserError
from gpu_inference.load.records import SLO, Record
from gpu_inference.paths import VALUES
from gpu_inference.resolve import resolve

LAYERS = [VALUES / "prod.yaml", VALUES / "overlays" / "demo.yaml"]


def sample(time: float, desired: int, ready: int, **more) -> Sample:
    pods = {"pending": 0, "loading": max(desired - ready, 0), "ready": ready, "terminating": max(ready - desired, 0)}
    gpus = float(max(desired, ready))
    known = {"gpus": gpus, "gpus_leaving": float(pods["terminating"]), "gpu_hours": time * 3 / 3600} | more
    return Sample(
        time, 9, pods, desired, ready, max(desired, ready), 7.5, True, sent=int(time), done=int(time), **known
    )


def result(**more) -> Result:
    """A run as it should be: 2 -> 5 -> 2 replicas, 20 requests, all fine."""
    path = [(0, 2, 0), (10, 2, 2), (20, 5, 2), (30, 5, 5), (50, 3, 5), (60, 2, 3), (70, 2, 2)]
    requests = [Record("llama", i, i, 100, 3, 0.5, 0.6, [0.05, 0.05]) for i in range(20)]
    trickle = [Record("rerank", i, i, 8, 0, None, 0.05) for i in range(3)]
    made = Result(
        model="llama",
        minimum=2,
        maximum=10,
        target=8,
        slo=SLO(),
        cluster={"provider": "embedded", "cloud": "gke", "nodes": 9, "kubernetes": "v1.36.3"},
        layers=["prod.yaml", "demo.yaml"],
        traffic={"trace": "a <test>", "start_s": 0, "duration_s": 20, "rate": 1, "requests": 20, "clipped": 0},
        started="2026-01-01T00:00:00+00:00",
        seconds={"cluster": 9.0, "traffic": 25.5},
        objects={"Deployment": 2, "Service": 2},
        leftovers=[],
        samples=[sample(*step) for step in path],
        records=requests + trickle,
        traffic_at=12.0,
        series={"running": [(12.0, 3.0), (14.0, 5.0)], "waiting": [(12.0, 0.0), (14.0, 1.0)]},
    )
    made = dataclasses.replace(made, **more)
    made.judge_load()
    return made


def failed(run: Result) -> list[str]:
    return [check.name for check in checks(run) if not check.passed]


def test_a_good_run_passes():
    assert failed(result()) == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"missing": ["Service/llm-llama"]}, "every object was accepted"),
        ({"objects": {}}, "every object was accepted"),
        ({"samples": [sample(0, 2, 2), sample(1, 2, 2)]}, "replicas rose above the minimum"),
        ({"samples": [sample(0, 2, 2), sample(1, 5, 2), sample(2, 2, 2)]}, "replicas rose above the minimum"),
        ({"samples": [sample(0, 2, 2), sample(1, 5, 5), sample(2, 2, 3)]}, "replicas came back to the minimum"),
        ({"records": [Record("llama", 0, 0, 9, 3, 0.5, 0.6, [0.1, 0.1], "HTTP 500")]}, "no request failed"),
        ({"records": []}, "the service level was computed"),
        ({"records": [Record("rerank", 0, 0, 8, 0, None, 0.05)]}, "the service level was computed"),
        ({"leftovers": ["pod/llm-llama-x"]}, "helm uninstall left nothing"),
    ],
)
def test_each_promise_can_fail(change, check):
    assert check in failed(result(**change))


def test_a_failed_trickle_request_fails_the_run():
    run = result()
    run.records[-1].error = "HTTP 503"
    run.judge_load()
    assert failed(run) == ["no request failed"]


def test_missing_the_service_level_is_reported_not_failed():
    late = [Record("llama", i, i, 100, 3, 5.0, 5.1, [0.05, 0.05]) for i in range(20)]
    data = summary(result(records=late))
    assert data["passed"]
    assert data["load"]["llama"]["slo"]["attainment"] == 0
    assert not data["load"]["llama"]["slo"]["met"]


def test_scaling_is_counted_from_the_traffic():
    moved = scaling(result())
    assert (moved["peak_desired"], moved["peak_ready"]) == (5, 5)
    assert (moved["first_scale_up_s"], moved["peak_ready_s"], moved["back_at_min_s"]) == (8.0, 18.0, 58.0)


def test_a_terminating_pod_is_not_back_at_the_minimum():
    assert at_minimum(sample(1, 2, 2), 2)
    assert not at_minimum(dataclasses.replace(sample(1, 2, 2), existing=3), 2)
    assert not at_minimum(sample(1, 2, 1), 2)


def test_the_fixed_fleet_has_the_peaks_replicas():
    hours = gpu_hours(result())
    assert hours["fixed_at_peak"] == pytest.approx(5 * 70 / 3600, abs=1e-4)
    assert hours["held"] == pytest.approx(70 * 3 / 3600, abs=1e-4)
    assert hours["saved"] == pytest.approx(1 - 3 / 5, abs=1e-3)


def pod(phase="Running", ready=None, deleted=False, node="n1", gpus="1") -> dict:
    return {
        "metadata": {"name": "p", **({"deletionTimestamp": "now"} if deleted else {})},
        "spec": {
            "containers": [{"resources": {"requests": {"nvidia.com/gpu": gpus, "cpu": "4"}}}, {}],
            **({"nodeName": node} if node else {}),
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}] if ready else []},
    }


@pytest.mark.parametrize(
    ("item", "state", "gpus"),
    [
        (pod("Pending", node=None), "pending", 0),
        (pod("Pending"), "pending", 1),
        (pod("Running", "False"), "loading", 1),
        (pod("Running", "True", gpus="2"), "ready", 2),
        (pod("Running", "True", deleted=True), "terminating", 1),
        (pod("Succeeded"), None, 0),
        (pod("Failed"), None, 0),
    ],
)
def test_states_of_a_pod_and_the_gpus_it_holds(item, state, gpus):
    assert observe.state(item) == state
    assert observe.held_gpus(item, {"nvidia.com/gpu"}) == gpus


@pytest.mark.parametrize(("text", "value"), [("7500m", 7.5), ("12", 12.0), (None, None)])
def test_metric_of_an_hpa(text, value):
    current = {} if text is None else {"averageValue": text}
    status = {"status": {"currentMetrics": [{"type": "External", "external": {"current": current}}]}}
    assert observe.metric_per_replica(status) == value
    assert observe.metric_per_replica({"status": {}}) is None


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = report.make_folder(None, tmp_path_factory.mktemp("out"), "20260101-000000")
    report.write(result(), folder)
    return folder


def test_report_has_every_part(written):
    assert {path.name for path in written.iterdir()} == {
        "summary.json", "report.html", "samples.jsonl", "requests.jsonl", "overview.png",
        "traffic.png", "replicas.png", "queue.png", "ttft.png", "gpu-hours.png",
    }  # fmt: skip
    for image in written.glob("*.png"):
        assert image.read_bytes().startswith(b"\x89PNG")


def test_html_needs_nothing_else(written):
    page = (written / "report.html").read_text()
    assert not re.search(r"https?://", page)
    assert not re.search(r"<(script|link|iframe)\b", page)
    sources = re.findall(r'src="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "a &lt;test&gt;" in page  # what came from outside is escaped
    assert page.count("passed") >= 7


def test_html_of_a_failed_run_says_so(tmp_path):
    data = summary(result(missing=["Service/llm-llama"]))
    page = report.html(data, [])
    assert "not there: Service/llm-llama" in page
    assert '<span class="bad">failed</span>' in page


# The summary's contract with whoever reads it: key -> type, or the same of an object.
LOAD = {
    "requests": {"total": int, "ok": int, "failed": int},
    "errors": dict,
    "seconds": float,
    "tokens": {"input": int, "output": int, "output_per_s": float},
    "ttft_s": dict | None,
    "itl_s": dict | None,
    "tpot_s": dict | None,
    "e2e_s": dict | None,
    "send_lag_s": dict | None,
    "generator_kept_up": bool,
}
SLO_SHAPE = {
    "statement": str,
    "ttft_target_s": float,
    "itl_target_s": float,
    "share_target": float,
    "attainment": float,
    "ttft_attainment": float,
    "met": bool,
    "goodput_rps": float,
}
SHAPE = {
    "version": int,
    "started": str,
    "simulated": str,
    "passed": bool,
    "checks": list,
    "seconds": dict,
    "cluster": {"provider": str, "cloud": str, "nodes": int, "kubernetes": str},
    "chart": {"layers": list, "objects": dict},
    "traffic": {"trace": str, "start_s": int, "duration_s": int, "rate": int, "requests": int, "clipped": int},
    "scaling": {
        "model": str, "min": int, "max": int, "target_in_flight": int, "peak_desired": int, "peak_ready": int,
        "first_scale_up_s": float | None, "peak_ready_s": float | None, "back_at_min_s": float | None,
    },
    "gpu_hours": {"held": float, "fixed_at_peak": float, "saved": float},
    "load": {"llama": LOAD | {"slo": SLO_SHAPE}, "rerank": LOAD},
}  # fmt: skip


def assert_shape(data, shape, at="$"):
    if isinstance(shape, dict):
        assert set(data) == set(shape), at
        for key, inner in shape.items():
            assert_shape(data[key], inner, f"{at}.{key}")
    else:
        assert isinstance(data, shape), f"{at}: {data!r}"


def test_summary_has_its_shape(written):
    data = json.loads((written / "summary.json").read_text())
    assert_shape(data, SHAPE)
    assert [set(check) for check in data["checks"]] == [{"name", "passed", "detail"}] * 6


def test_records_and_samples_are_kept(written):
    assert len((written / "requests.jsonl").read_text().splitlines()) == 23
    rows = [json.loads(line) for line in (written / "samples.jsonl").read_text().splitlines()]
    assert [row["desired"] for row in rows] == [2, 2, 5, 5, 3, 2, 2]
    assert all("in_flight" in row for row in rows)


def test_reports_stand_side_by_side(tmp_path):
    first = report.make_folder(None, tmp_path, "x")
    second = report.make_folder(None, tmp_path, "x")
    assert first != second
    report.remove_if_empty(second)
    assert not second.exists()
    (first / "summary.json").write_text("{}")
    report.remove_if_empty(first)
    assert first.exists()
    with pytest.raises(UserError, match="is not empty"):
        report.make_folder(first, tmp_path, "x")


def test_output_that_is_a_file_is_said_before_anything_starts(tmp_path, capsys):
    target = tmp_path / "file"
    target.write_text("")
    assert main(["demo", "--output", str(target / "report")]) == 2
    assert "cannot make the report's folder" in capsys.readouterr().err


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_demo
from gpu_inference.demo import report
from gpu_inference.errors import UserError
run = test_demo.result()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    report.write(run, Path({folder!r}))
except UserError as error:
    print(error.exit_code, error.message)
"""


def test_a_full_disk_is_said_and_leaves_no_half_report(tmp_path):
    """A limit on file sizes stands for the disk: like ENOSPC, it comes in the middle of a write."""
    folder = tmp_path / "report"
    folder.mkdir()
    code = FULL_DISK.format(tests=str(Path(__file__).parent), limit=60_000, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"1 cannot write the report into {folder}: File too large")
    assert not folder.exists()


def test_the_trace_goes_to_the_first_autoscaled_openai_model():
    models = resolve(LAYERS)["models"]
    assert autoscaled(models) == "llama"
    models["llama"]["autoscaling"]["enabled"] = False
    with pytest.raises(UserError, match="no model of these values has both"):
        autoscaled(models)


def test_prerequisites_are_what_the_values_name():
    objects = environment.prerequisites(resolve(LAYERS)["models"])
    kinds = {(o["kind"], o["metadata"]["name"]) for o in objects}
    assert kinds == {
        ("Namespace", "inference"),
        ("Secret", "huggingface"),
        ("PersistentVolume", "model-repository"),
        ("PersistentVolumeClaim", "model-repository"),
    }
    assert objects[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_overlay_changes_times_and_the_cloud_only():
    """What the demo shows is production's: same image, model, accelerator, target and bounds."""
    before, after = (resolve(layers)["models"] for layers in (LAYERS[:1], LAYERS))
    assert before.keys() == after.keys()
    for name, spec in before.items():
        for key in ("image", "model", "accelerator", "parallelism", "capacity", "resources", "rollout", "security"):
            assert after[name][key] == spec[key], (name, key)
        scaling_before, scaling_after = spec["autoscaling"], after[name]["autoscaling"]
        for key in ("enabled", "minReplicas", "maxReplicas", "target"):
            assert scaling_after[key] == scaling_before[key], (name, key)


def test_plain_view_prints_a_sample_every_ten_seconds(monkeypatch):
    out = io.StringIO()
    screen = View(out)
    clock = iter([0.0, 0.0, 0.0, 1.0, 9.0, 10.5, 10.5, 10.5, 12.0])
    monkeypatch.setattr(screen, "clock", lambda: next(clock))
    for time in (0, 1, 9, 10.5, 12):
        screen.show("traffic", sample(time, 5, 3), planned=20)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "replicas 3/5" in lines[0]
    assert "2 loading, 3 ready" in lines[0]


def test_live_view_shows_what_the_sample_says():
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=30, color_system=None)
    screen = LiveView(console)
    with screen:
        screen.step("a step")
        screen.show("traffic", sample(42, 5, 3, ttft_p50=0.2, ttft_p95=1.5), planned=100)
    text = console.file.getvalue()
    for words in ("a step", "3 ready / 5 desired", "p50 200 ms", "p95 1.50 s", "42 of 100 answered", "on 9 nodes"):
        assert words in text


def test_sparkline_reaches_from_nothing_to_the_maximum():
    assert sparkline([0, 5, 10], 10) == "▁▅█"
    assert sparkline([0, 0], 10) == "▁▁"
    assert len(sparkline([1.0] * 100, 20)) == 20


@pytest.mark.parametrize("option", ["--rate", "--duration", "--slo-ttft", "--slo-itl"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_numbers_that_make_no_sense_are_usage_errors(option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["demo", option, value])
    assert ended.value.code == 2
    assert f"argument {option}: invalid positive number value" in capsys.readouterr().err
