"""What runs in other people's pull requests, run here as far as it can be without its host."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.render import MAJORS, load_yaml

from gpu_inference.helm import find_helm
from gpu_inference.paths import ROOT

BIN = Path(sys.executable).parent
GOOD = """\
models:
  a: {runtime: vllm, model: {source: "hf://org/name"}, accelerator: {type: nvidia-l4}}
"""
ME = ("-c", "user.name=t", "-c", "user.email=t@example.com")


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project as it would be published, a repository of its own."""
    copy = tmp_path_factory.mktemp("project")
    # Tests and pictures are no part of what is installed.
    for name in ("chart", "schema", "values", "tools", "ci"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, copy / name)
    git(copy, "init", "-q")
    git(copy, "add", "-A")
    git(copy, *ME, "commit", "-qm", "one")
    return copy


@pytest.fixture
def users(tmp_path) -> Path:
    """A repository with the chart and two values files, the second one bad."""
    shutil.copytree(ROOT / "chart", tmp_path / "chart")
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "good.yaml").write_text(GOOD)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, *ME, "commit", "-qm", "one")
    (tmp_path / "values" / "bad.yaml").write_text(GOOD.replace("runtime", "runtme"))
    return tmp_path


def run(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A script as the hosts run it, with the tools on PATH."""
    path = f"{BIN}:{os.environ['PATH']}"
    words = ["bash", "-eo", "pipefail", "-c", script]
    return subprocess.run(words, cwd=folder, env={**os.environ, "PATH": path, **env}, capture_output=True, text=True)


def test_the_wheel_has_all_it_needs(project, tmp_path):
    """The chart, schema and binaries' modules come with it, and are found without the checkout."""
    words = ["wheel", str(project), "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    if "No module named pip" in done.stderr:
        uv = shutil.which("uv")
        if not uv:
            pytest.skip("neither pip in the environment nor uv on PATH")
        words = ["build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-q", "-o", str(tmp_path)]
        done = subprocess.run([uv, *words, project], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import sys, gpu_inference.paths as p, gpu_inference.cli as c; print(p.CHART); c.main(sys.argv[1:])"
    (tmp_path / "v.yaml").write_text(GOOD)
    words = [sys.executable, "-c", code, "validate", "v.yaml"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    files = tmp_path / "site/gpu_inference_files"
    assert done.stdout.splitlines() == [str(files / "chart"), "ok: 1 values set"], done.stderr
    for name in ("chart/.helmignore", "schema/model.yaml", "tools/binaries/helm/go.mod"):
        assert (files / name).is_file()


def steps(inputs: dict[str, str]) -> dict[str, tuple[str, dict[str, str]]]:
    """name -> (script, environment) of the action's own steps."""
    action = load_yaml(ROOT / "ci/github/action.yml")
    given = {name: str(value["default"]) for name, value in action["inputs"].items()} | inputs

    def filled(text: str) -> str:
        return re.sub(r"\${{ inputs\.([a-z-]+) }}", lambda found: given[found[1]], text)

    found = {}
    for step in action["runs"]["steps"]:
        if "run" in step:
            assert "${{" not in step["run"], "an input in a script is code of whoever wrote it"
            found[step["name"]] = step["run"], {key: filled(value) for key, value in step.get("env", {}).items()}
    return found


def test_the_action_says_what_is_wrong(users):
    script, env = steps({})["Validate"]
    done = run(script, users, **env)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("::error file=values/bad.yaml,line=2,col=7,title=schema-unknown-key")
    script, env = steps({"files": "values/good.yaml chart/values.yaml"})["Validate"]
    assert run(script, users, **env).returncode == 0


def test_the_action_compares(users, tmp_path):
    summary = tmp_path / "summary.md"
    (users / "values" / "bad.yaml").unlink()
    (users / "values" / "good.yaml").write_text(GOOD + "cloud: gke\n")
    script, env = steps({"base": "HEAD"})["Compare"]
    done = run(script, users, GITHUB_STEP_SUMMARY=str(summary), **env)
    assert done.returncode == 0, done.stderr
    assert "### 1 release of 1 would change" in summary.read_text()


def test_the_action_installs_from_its_own_repository(project):
    script, _ = steps({})["Install"]
    path = Path(script.split('"')[1].replace("$GITHUB_ACTION_PATH", str(project / "ci/github")))
    assert path.resolve() == project.resolve()


def test_the_workflow_passes_what_the_action_takes():
    workflow = load_yaml(ROOT / ".github/workflows/values.yaml")
    inputs = load_yaml(ROOT / "ci/github/action.yml")["inputs"].keys()
    uses = [step for step in workflow["jobs"]["values"]["steps"] if "ci/github" in step["uses"]]
    assert len(uses) == 2
    for step in uses:
        assert step["with"].keys() <= inputs


def test_the_gitlab_job(users):
    job: dict[str, Any] = load_yaml(ROOT / "ci/gitlab/values.yaml")["gpu-inference-values"]
    variables = {key: str(value) for key, value in job["variables"].items()}
    done = run("\n".join(job["script"]), users, **variables)
    assert done.returncode == 1
    reports = job["artifacts"]["reports"]
    (issue,) = json.loads((users / reports["codequality"]).read_text())
    assert issue["location"]["path"] == "values/bad.yaml"
    assert '<failure type="schema-unknown-key"' not in (users / reports["junit"]).read_text()
    (users / "values" / "bad.yaml").unlink()
    assert run("\n".join(job["script"]), users, **variables).returncode == 0


@pytest.mark.slow
def test_the_hook_in_a_repository(project, users, tmp_path):
    revision = run("git rev-parse HEAD", project).stdout.strip()
    config = f"repos: [{{repo: '{project}', rev: {revision}, hooks: [{{id: gpu-inference-validate}}]}}]\n"
    (users / ".pre-commit-config.yaml").write_text(config)
    git(users, "add", "-A")
    env = {"PRE_COMMIT_HOME": str(tmp_path / "pre-commit")}
    installed = run("pre-commit install-hooks", users, **env)
    if installed.returncode:
        pytest.skip(f"pre-commit cannot install the hook's environment here: {installed.stdout[-300:]}")
    done = run("pre-commit run --all-files", users, **env)
    assert done.returncode == 1
    assert "values/bad.yaml:2:7: $.models.a.runtme: unknown key `runtme`. Fix: write `runtime`." in done.stdout
    git(users, "rm", "-qf", "values/bad.yaml")
    done = run("pre-commit run --all-files", users, **env)
    assert done.returncode == 0, done.stdout
    assert "Passed" in done.stdout


@pytest.mark.parametrize("major", MAJORS)
def test_the_helm_plugin(users, tmp_path, major):
    """Installed into a real helm, as its first lines say."""
    text = (ROOT / "ci/helm-plugin/plugin.yaml").read_text()
    assert load_yaml(ROOT / "ci/helm-plugin/plugin.yaml")["version"] == load_yaml(ROOT / "chart/Chart.yaml")["version"]
    assert "--verify=false" in text
    # Helm 4.3 installs below the data folder whatever HELM_PLUGINS says.
    env = {"HELM_PLUGINS": str(tmp_path / "data/plugins"), "HELM_DATA_HOME": str(tmp_path / "data")}
    helm = find_helm(major)
    verify = "--verify=false" if major == 4 else ""
    done = run(f"'{helm}' plugin install '{ROOT / 'ci/helm-plugin'}' {verify}", users, **env)
    assert done.returncode == 0, done.stderr
    done = run(f"'{helm}' gpu-inference validate -f values/good.yaml", users, **env)
    assert (done.returncode, done.stdout) == (0, "ok: 1 values set\n")
    assert run(f"'{helm}' gpu-inference validate -f values/bad.yaml", users, **env).returncode == 1


def test_the_image_copies_what_there_is():
    lines = (ROOT / "ci/Containerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = [name for names in copies for name in names]
    assert {"chart", "schema", "tools", "pyproject.toml"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
    assert lines.index("USER 1000") < next(n for n, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
