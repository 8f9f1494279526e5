"""Which words the Helm class gives to which major, and what it makes of what comes back. A script stands for helm."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest
from support.render import MAJORS, helm

from gpu_inference.errors import UserError
from gpu_inference.helm import Helm, readable
from gpu_inference.paths import CHART, ROOT

VERSIONS = {3: "v3.22.0", 4: "v4.3.1"}
FAKE = """\
#!{python}
import json, sys
if "version" in sys.argv:
    print({version!r}, end="")
else:
    open({log!r}, "w").write(json.dumps(sys.argv[1:]))
    print({stdout!r})
    print({stderr!r}, file=sys.stderr)
    sys.exit({code})
"""


@pytest.fixture
def fake(tmp_path):
    """A Helm over a script, and a function that tells the words of its last call."""

    def fake(major=4, stdout="", stderr="", code=0, kubeconfig=None):
        script, log = tmp_path / "helm", tmp_path / "log"
        fields = {"python": sys.executable, "version": VERSIONS[major], "log": str(log)}
        script.write_text(FAKE.format(**fields, stdout=stdout, stderr=stderr, code=code))
        script.chmod(0o755)
        return Helm(script, kubeconfig), lambda: json.loads(log.read_text())

    return fake


@pytest.mark.parametrize(("major", "flag"), [(3, "--atomic"), (4, "--rollback-on-failure")])
def test_atomic(fake, major, flag):
    helm, words = fake(major)
    helm.upgrade("llm", Path("chart"), atomic=True)
    assert flag in words()
    helm.install("llm", Path("chart"))
    assert flag not in words()
    assert helm.major == major


def test_install(fake, tmp_path):
    helm, words = fake(kubeconfig=tmp_path / "config")
    helm.install("llm", Path("chart"), layers=[Path("a.yaml"), Path("b.yaml")], namespace="ns", wait=True, timeout="9s")
    assert words() == [
        *("install", "llm", "chart", "--namespace", "ns", "--create-namespace"),
        *("--values", "a.yaml", "--values", "b.yaml", "--wait", "--timeout", "9s"),
        *("--kubeconfig", str(tmp_path / "config")),
    ]


def test_the_rest(fake):
    helm, words = fake()
    helm.rollback("llm", 2, namespace="ns", wait=True)
    assert words() == ["rollback", "llm", "2", "--namespace", "ns", "--wait", "--timeout", "300s"]
    helm.uninstall("llm", namespace="ns")
    assert words() == ["uninstall", "llm", "--namespace", "ns", "--wait", "--timeout", "300s"]
    helm.test("llm", namespace="ns")
    assert words() == ["test", "llm", "--namespace", "ns", "--timeout", "300s"]


def test_template_gives_objects(fake):
    helm, words = fake(stdout="---\n# Source: x\n---\nkind: A\n---\nkind: B\n")
    objects = helm.template(
        "llm", Path("chart"), set_values=["a=1"], show_only=["templates/x.yaml"], kube_version="1.34"
    )
    assert objects == [{"kind": "A"}, {"kind": "B"}]
    assert words()[3:] == [
        *("--namespace", "default", "--set", "a=1", "--show-only", "templates/x.yaml", "--kube-version", "1.34")
    ]


def test_failure_is_a_user_error_in_helms_words(fake):
    helm, _ = fake(stderr="level=INFO msg=x\nError: INSTALLATION FAILED: name is in use\n", code=1)
    with pytest.raises(UserError) as caught:
        helm.install("llm", Path("chart"))
    assert (caught.value.message, caught.value.exit_code) == ("name is in use", 1)


def test_lint_fails_with_what_it_prints(fake):
    helm, _ = fake(stdout="[ERROR] templates/: no name", stderr="Error: 1 chart(s) linted, 1 chart(s) failed", code=1)
    with pytest.raises(UserError, match="no name"):
        helm.lint(Path("chart"))


def test_no_binary(tmp_path):
    with pytest.raises(UserError, match="cannot run") as caught:
        Helm(tmp_path / "no-helm").run("version")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("Error: release: not found\n", "release: not found"),
        ("WARNING: Kubernetes configuration file is group-readable. x\nError: boom\n", "boom"),
        (
            "Error: execution error at (gpu-inference/templates/check/values.yaml:23:6): these values cannot work\n\n"
            "Use --debug flag to render out invalid YAML\n",
            "these values cannot work",
        ),
        (
            "Error: values don't meet the specifications of the schema(s) in the following chart(s):\ngpu-inference:\n"
            "- at '/cloud': got number, want string\n",
            "- at '/cloud': got number, want string",
        ),
        ("", "helm failed without a word"),
    ],
)
def test_readable(raw, message):
    assert readable(raw) == message


@pytest.mark.parametrize("major", MAJORS)
def test_the_real_binary(major, tmp_path):
    real = helm(major)
    assert real.major == major
    assert "0 chart(s) failed" in real.lint(CHART, [ROOT / "values" / "prod.yaml"])
    package = real.package(CHART, tmp_path, version="9.9.9")
    assert package == tmp_path / "gpu-inference-9.9.9.tgz"
    with tarfile.open(package) as archive:
        assert "gpu-inference/values.schema.json" in archive.getnames()
    with pytest.raises(UserError, match="additional properties 'modles' not allowed"):
        real.template("x", package, set_values=["modles.a=1"])
