"""The kind provider's pure parts: what kind is told, what a node image is made of, which engine is used."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_inference.cluster import inventory
from gpu_inference.cluster.binaries import table
from gpu_inference.cluster.kind import KindCluster, config, engine, machine, mounts, network, nodes
from gpu_inference.cluster.kind.control import Kind
from gpu_inference.cluster.kind.image import archive, plan
from gpu_inference.errors import UserError


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is the whole PATH; a cache of its own; no choice of an engine."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KIND_EXPERIMENTAL_PROVIDER", raising=False)
    monkeypatch.delenv(engine.INSTALL_VARIABLE, raising=False)
    return tmp_path / "path"


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.os, "geteuid", lambda: 0)


def patches(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {patch["kind"]: patch for patch in map(yaml.safe_load, content["kubeadmConfigPatches"])}


@pytest.mark.parametrize(("workers", "published"), [(2, False), (1, True)])
def test_config_of_the_cluster(workers: int, published: bool) -> None:
    content = config.cluster("gi-x", "an/image", workers, 2.5, published=published, limits=True)
    assert [node["role"] for node in content["nodes"]] == ["control-plane"] + ["worker"] * workers
    assert {node["image"] for node in content["nodes"]} == {"an/image"}
    assert content["networking"]["disableDefaultCNI"] is not published
    assert "containerdConfigPatches" not in content
    assert patches(content)["KubeletConfiguration"]["failCgroupV1"] is False
    arguments = patches(content)["ClusterConfiguration"]["controllerManager"]["extraArgs"]
    assert arguments == [{"name": "horizontal-pod-autoscaler-sync-period", "value": "2.5s"}]


def test_config_where_no_limit_may_be_raised() -> None:
    content = config.cluster("gi-x", "an/image", 2, 15, published=False, limits=False)
    assert "restrict_oom_score_adj = true" in content["containerdConfigPatches"][0]


@pytest.mark.parametrize(("mask", "may"), [("000001ffffffffff", True), ("000001fffeffffff", False)])
def test_capability_is_read_from_the_kernel(tmp_path: Path, mask: str, may: bool) -> None:
    (tmp_path / "status").write_text(f"Name:\tx\nCapPrm:\t0\nCapEff:\t{mask}\n", encoding="utf-8")
    assert config.may_raise_limits(tmp_path / "status") is may


def test_no_engine_gives_every_reason_and_what_to_install(path: Path) -> None:
    with pytest.raises(UserError) as caught:
        engine.find()
    assert "there is no docker; there is no podman" in caught.value.message
    assert "apt-get install" in caught.value.fix and "podman" in caught.value.fix


def test_docker_is_used_where_its_daemon_answers(path: Path, as_root: None) -> None:
    script(path / "docker", "exit 0")
    script(path / "podman", "exit 0")
    assert engine.find().name == "docker"


@pytest.mark.usefixtures("as_root")
def test_podman_is_used_where_no_daemon_answers(path: Path, tmp_path: Path) -> None:
    """With settings of its own: nothing of the machine's podman is read or written."""
    script(path / "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    script(path / "podman", '[ -n "$CONTAINERS_CONF" ] && [ -n "$CONTAINERS_STORAGE_CONF" ]')
    script(path / "runc", "exit 0")
    found = engine.find()
    assert found.name == "podman"
    storage = Path(found.env["CONTAINERS_STORAGE_CONF"]).read_text(encoding="utf-8")
    assert f'graphroot = "{tmp_path}/cache/gpu-inference/podman/storage"' in storage
    settings = Path(found.env["CONTAINERS_CONF"]).read_text(encoding="utf-8")
    assert 'runtime = "runc"' in settings and "${" not in settings + storage


def test_podman_of_another_user_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(path / "podman", "exit 0")
    monkeypatch.setattr(engine.os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="podman is used as root only"):
        engine.find()


@pytest.mark.usefixtures("as_root")
def test_the_choice_of_an_engine_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(path / "docker", "exit 0")
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    with pytest.raises(UserError, match="there is no podman"):
        engine.find()


@pytest.mark.usefixtures("as_root")
def test_packages_are_installed_only_when_allowed(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "apt.log"
    script(path / "apt-get", f'echo "$@" >> {log}; [ "$2" = update ] || {{ printf "#!/bin/sh\\n" > {path}/podman; }}')
    with pytest.raises(UserError, match="there is no podman"):
        engine.find()
    assert not log.exists()
    with pytest.raises(UserError):  # the podman that is "installed" here cannot be run
        engine.find(install=True)
    update, install = log.read_text(encoding="utf-8").splitlines()
    assert "update" in update and "install -y --no-install-recommends podman" in install


@pytest.mark.usefixtures("as_root")
def test_installation_that_fails_says_how(path: Path) -> None:
    script(path / "apt-get", 'echo "E: Unable to locate package podman" >&2; exit 100')
    with pytest.raises(UserError, match="Unable to locate package podman"):
        engine.find(install=True)


@pytest.mark.parametrize(
    ("release", "sources", "expected"),
    [
        (
            "ID=debian\nVERSION_CODENAME=bookworm\n",
            "Types: deb\n# http://snapshot.example/x\nURIs: http://mirror.example/debian\nSuites: bookworm\n",
            plan.Distribution("bookworm", "http://mirror.example/debian", ("main",)),
        ),
        (
            "ID=ubuntu\nVERSION_CODENAME=noble\n",
            "# comment\ndeb [signed-by=/x.gpg] https://ubuntu.example/ubuntu noble main universe\n",
            plan.Distribution("noble", "https://ubuntu.example/ubuntu", ("main", "universe")),
        ),
        ("ID=fedora\n", "", None),
        ("ID=debian\nVERSION_CODENAME=trixie\n", "deb cdrom:[x]/ trixie main\n", None),
    ],
)
def test_distribution_is_the_machines(tmp_path: Path, release: str, sources: str, expected: Any) -> None:
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text(release, encoding="utf-8")
    (tmp_path / "etc/apt/sources.list.d/x.sources").write_text(sources, encoding="utf-8")
    assert plan.distribution(tmp_path) == expected


def test_image_name_changes_with_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one = plan.Distribution("bookworm", "http://a", ("main",))
    name = plan.local_name(one)
    assert name.startswith(f"localhost/gpu-inference/node:{table()['kubelet'].version}-")
    assert plan.local_name(plan.Distribution("bookworm", "http://another-mirror", ("main",))) == name
    assert plan.local_name(plan.Distribution("trixie", "http://a", ("main",))) != name
    monkeypatch.setattr(plan, "PACKAGES", ("systemd",))
    assert plan.local_name(one) != name


def test_images_have_the_names_that_kubeadm_and_containerd_ask_for(tmp_path: Path) -> None:
    listed = ["registry.k8s.io/kube-apiserver:v1", "registry.k8s.io/coredns/coredns:v2", "registry.k8s.io/pause:3.10.1"]
    kubeadm = script(tmp_path / "kubeadm", "printf '%s\\n' " + " ".join(listed))
    names = plan.needed_images(kubeadm, 'sandbox_image = "registry.k8s.io/pause:3.10"\n')
    assert names["coredns"] == ["registry.k8s.io/coredns/coredns:v2"]
    assert names["pause"] == ["registry.k8s.io/pause:3.10.1", "registry.k8s.io/pause:3.10"]
    assert names["local-path-provisioner"] == [plan.LOCAL_PATH_IMAGE]


def test_published_image_is_pinned_and_of_the_same_minor() -> None:
    name, _, digest = plan.PUBLISHED.partition("@sha256:")
    assert len(digest) == 64
    assert name.rpartition(":")[2].rpartition(".")[0] == plan.version().rpartition(".")[0]
    assert f"kind {table()['kind'].version}" in Path(plan.__file__).read_text(encoding="utf-8")


def test_archive_is_an_image_and_always_the_same(tmp_path: Path) -> None:
    binary = script(tmp_path / "server", "exit 0")
    image = archive.Image(["a/b:1"], ["/server"], {"server": binary}, {"bin/s": "../server"}, ["run"])
    archive.write(image, tmp_path / "one.tar")
    binary.touch()
    archive.write(image, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())[0]  # type: ignore[union-attr]
        settings = json.loads(tar.extractfile(manifest["Config"]).read())  # type: ignore[union-attr]
        layer = tar.extractfile(manifest["Layers"][0])
        assert layer
        assert settings["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer.read()).hexdigest()}"]
        layer.seek(0)
        with tarfile.open(fileobj=layer) as inner:
            assert set(inner.getnames()) == {"tmp", "run", "server", "bin/s"}
            assert inner.getmember("server").mode == 0o755 and inner.getmember("bin/s").linkname == "../server"
    assert manifest["RepoTags"] == ["a/b:1"] and settings["config"]["Entrypoint"] == ["/server"]


@pytest.mark.parametrize("cloud", inventory.known())
def test_workers_of_a_cloud(cloud: str) -> None:
    """Two machines with the same GPUs in two zones; the second is a spot node wherever the cloud has one."""
    first, second = inventory.gpu_workers(cloud, 2)
    assert nodes.devices(first) == nodes.devices(second) != {}
    zone = "topology.kubernetes.io/zone"
    assert first["metadata"]["labels"][zone] != second["metadata"]["labels"][zone]
    plain = {key: v for key, v in first["metadata"]["labels"].items() if key not in (zone, "kubernetes.io/hostname")}
    assert (plain.items() <= second["metadata"]["labels"].items()) == (cloud == "generic")


def test_node_keeps_its_own_labels_and_taints() -> None:
    own = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    node = {"metadata": {"name": "n", "resourceVersion": "7"}, "spec": {"taints": [own]}}
    gpu = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    example = {"metadata": {"labels": {"kubernetes.io/hostname": "x", "a": "b"}}, "spec": {"taints": [gpu]}}
    for _ in range(2):
        patch = nodes.clothes(node, example)
        assert patch["metadata"] == {"labels": {"a": "b"}, "resourceVersion": "7"}
        assert patch["spec"]["taints"] == [own, gpu]
        node["spec"] = patch["spec"]


def test_pod_network_of_a_node() -> None:
    text = network.script("10.244.1.0/24", {"10.244.0.0/24": "10.89.0.2"})
    conflist = next(line for line in text.splitlines() if line.startswith('{"cniVersion"'))
    assert json.loads(conflist)["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    assert "ip route replace 10.244.0.0/24 via 10.89.0.2" in text
    assert text.count("<<'END'") == 3 == text.splitlines().count("END")


def test_mounts_are_found_innermost_first() -> None:
    table_text = "1 2 0:3 / /a/b rw - x x rw\n1 2 0:3 / /a/b/c\\040d rw - x x rw\n1 2 0:3 / /ab rw - x x rw\n"
    assert mounts.below(Path("/a"), table_text) == ["/a/b/c d", "/a/b"]


@pytest.mark.usefixtures("as_root")
def test_machine_is_as_before(tmp_path: Path) -> None:
    """A limit that is too low, and a folder that is missing; raised once, whoever asks again."""
    limit, modules = tmp_path / "proc/sys/fs/inotify/max_user_instances", tmp_path / "lib/modules"
    for folder in (limit.parent, modules.parent):
        folder.mkdir(parents=True)
    limit.write_text("128\n", encoding="utf-8")
    for _ in range(2):
        machine.prepare(tmp_path / "record", tmp_path)
        assert int(limit.read_text(encoding="utf-8")) >= 1024 and modules.is_dir()
    machine.restore(tmp_path / "record", tmp_path)
    assert limit.read_text(encoding="utf-8") == "128\n" and not modules.exists()
    limit.write_text("4096\n", encoding="utf-8")
    modules.mkdir()
    machine.prepare(tmp_path / "record", tmp_path)
    machine.restore(tmp_path / "record", tmp_path)
    assert limit.read_text(encoding="utf-8") == "4096\n" and modules.exists(), "what was enough is left alone"


def test_names_fit_into_a_host_name(tmp_path: Path) -> None:
    longest = "a" * 40
    kind = Kind.of(engine.Engine("podman", Path("podman"), {}), Path("kind"), longest, tmp_path)
    assert len(f"{kind.control_plane}") <= 63
    assert kind.network == f"gpu-inference-{longest}"


@pytest.mark.parametrize("setting", [{"cloud": "moon"}, {"workers": 0}, {"rules": Path("/none")}])
def test_impossible_settings_are_refused_at_once(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        KindCluster("x", **setting)
