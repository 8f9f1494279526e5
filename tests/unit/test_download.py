"""The scripts that download models, against a small hub, and against an rclone that only copies."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.hub import COMMIT, Hub, serving

from gpu_inference.paths import CHART

PYTHON, SHELL = CHART / "files/download.py", CHART / "files/download.sh"
WEIGHTS = bytes(range(256)) * 300
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": b"{}",
    "sub dir/tokenizer.json": b"[1]" * 90,
    "pytorch_model.bin": WEIGHTS,
}
TAKEN = {name: data for name, data in FILES.items() if not name.endswith(".bin")}


def command(prelude: str = "", *words: str) -> list[str]:
    """The script with pauses written down instead of waited for."""
    code = "import runpy, sys, time; time.sleep = lambda s: print('pause', round(s), flush=True)\n" + prelude
    return [sys.executable, "-c", f"{code}\nrunpy.run_path({str(PYTHON)!r}, run_name='__main__')", *words]


def environment(hub: Hub | None, folder: Path, **wanted: Any) -> dict[str, str]:
    said = {"source": "hf://org/name", "folder": str(folder), "path": f"{folder}/org/name"} | wanted
    token = {"HF_TOKEN": "secret", "HF_ENDPOINT": hub.url} if hub else {}
    return {**os.environ, "NO_PROXY": "*", "no_proxy": "*", "DOWNLOAD": json.dumps(said), **token}


def run(hub: Hub, folder: Path, prelude: str = "", **wanted: Any) -> tuple[int, str]:
    """(exit code, output) of one download."""
    done = subprocess.run(
        command(prelude), env=environment(hub, folder, **wanted), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def assert_complete(folder: Path, files: dict[str, bytes] = TAKEN) -> None:
    """All files with their bytes, the manifest about them, and nothing else."""
    there = {
        str(p.relative_to(folder / "org/name")): p.read_bytes() for p in (folder / "org").rglob("*") if p.is_file()
    }
    assert there == files
    lines = {f"{hashlib.sha256(data).hexdigest()} {len(data)} org/name/{name}" for name, data in files.items()}
    assert set((folder / "manifest").read_text().splitlines()) == lines
    assert {p.name for p in folder.iterdir()} == {"org", "manifest"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache/0123"


def test_a_model_is_downloaded_once(folder):
    with serving(Hub(FILES)) as hub:
        code, said = run(hub, folder)
        assert code == 0, said
        assert "left out, as they can run code: pytorch_model.bin" in said
        assert_complete(folder)
        before = len(hub.requests)
        assert run(hub, folder)[0] == 0
        assert len(hub.requests) == before, "all is there"
        (folder / "org/name/config.json").unlink()
        assert run(hub, folder)[0] == 0
    assert_complete(folder)


def test_all_files_are_of_one_commit_and_no_page_is_missed(folder):
    with serving(Hub(FILES, page=2)) as hub:
        assert run(hub, folder)[0] == 0
        assert {path.split("/resolve/")[1].split("/")[0] for path, _, _ in hub.asked("/resolve/")} == {COMMIT}
        assert len(hub.asked("/tree/")) == 3
    assert_complete(folder)


def test_a_rate_limit_is_waited_out_as_long_as_the_hub_says(folder):
    refusals = {
        "/tree/": [(429, {"Retry-After": "42"}), (429, {"RateLimit": '"api";r=0;t=55'})],
        "model.safetensors": [(503, {}), (503, {})],
    }
    with serving(Hub(FILES, refusals=refusals)) as hub:
        code, said = run(hub, folder)
    assert code == 0, said
    assert {"pause 43", "pause 56", "pause 3", "pause 5"} <= set(said.splitlines())
    assert_complete(folder)


def test_a_cut_connection_is_resumed(folder):
    with serving(Hub(FILES, cuts={"model.safetensors": [1000, 5000]})) as hub:
        code, said = run(hub, folder)
        assert code == 0, said
        assert [r for _, r, _ in hub.asked("model.safetensors")] == ["", "bytes=1000-", "bytes=6000-"]
    assert_complete(folder)


def test_a_stopped_download_is_resumed_and_what_it_left_is_not_trusted(folder):
    (folder / "org/name").mkdir(parents=True)
    (folder / "org/name/model.safetensors.partial").write_bytes(WEIGHTS[:777])
    (folder / "org/name/config.json").write_bytes(b"[]")
    with serving(Hub(FILES)) as hub:
        assert run(hub, folder)[0] == 0
        assert [r for _, r, _ in hub.asked("model.safetensors")] == ["bytes=777-"]
    assert_complete(folder)


def test_a_server_that_does_not_resume_is_asked_for_the_whole(folder):
    with serving(Hub(FILES, cuts={"model.safetensors": [1000]}, ranges=False)) as hub:
        assert run(hub, folder)[0] == 0
    assert_complete(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_are_never_served(folder, name):
    with serving(Hub(FILES, lies={name: 2})) as hub:
        code, said = run(hub, folder)
        assert code == 0 and said.count("wrong checksum") == 2, said
    assert_complete(folder)
    other = folder.with_name("other")
    with serving(Hub(FILES, lies={name: 99})) as hub:
        code, said = run(hub, other)
    assert code == 1 and f"failed: {name}: the checksum is not the Hub's" in said
    assert not (other / "manifest").exists() and not (other / "org/name" / name).exists()


def test_two_at_once_download_one_after_the_other(folder):
    with serving(Hub(FILES)) as hub:
        both = [
            subprocess.Popen(command(), env=environment(hub, folder), stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        said = [process.communicate(timeout=60)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        assert len(hub.asked("model.safetensors")) == 1, "the second found it"
    assert_complete(folder)


def test_a_lock_is_waited_for(folder):
    folder.mkdir(parents=True)
    with serving(Hub(FILES)) as hub:
        held = subprocess.Popen(["flock", f"{folder}.lock", "cat"], stdin=subprocess.PIPE)
        while subprocess.run(["flock", "--nonblock", f"{folder}.lock", "true"]).returncode == 0:
            assert held.poll() is None
        second = subprocess.Popen(command(), env=environment(hub, folder), stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert "another pod downloads" in second.stdout.readline()
        assert hub.requests == []
        held.communicate()
        assert second.wait(timeout=60) == 0
        second.stdout.close()
    assert_complete(folder)


def test_without_locks_every_pod_has_unfinished_files_of_its_own(folder):
    prelude = "import fcntl\ndef no(*_): raise OSError(38, 'no locks')\nfcntl.flock = no"
    others = folder / "org/name/model.safetensors.partial"
    others.parent.mkdir(parents=True)
    others.write_bytes(WEIGHTS[:9])
    with serving(Hub(FILES)) as hub:
        code, said = run(hub, folder, prelude)
        assert [r for _, r, _ in hub.asked("model.safetensors")] == [""]
    assert code == 0 and "no lock on this file system" in said
    assert others.read_bytes() == WEIGHTS[:9]
    others.unlink()
    assert_complete(folder)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, {"X-Error-Code": "RevisionNotFound"}), "no such revision"),
        ((401, {"X-Error-Code": "RepoNotFound"}), "no such model, or model.tokenSecret may not see it"),
        ((403, {"X-Error-Code": "GatedRepo"}), "accept the model's terms"),
        ((400, {}), "status 400"),
    ],
)
def test_what_does_not_pass_is_not_tried_again(folder, refusal, words):
    with serving(Hub(FILES, refusals={"/revision/": [refusal]})) as hub:
        code, said = run(hub, folder)
        assert len(hub.requests) == 1
    assert code == 1 and words in said
    assert "secret" not in said


def test_a_missing_revision(folder):
    with serving(Hub(FILES)) as hub:
        code, said = run(hub, folder, revision="no/such")
        assert hub.requests[0][0] == "/api/models/org/name/revision/no%2Fsuch"
    assert code == 1 and "there is no such revision: correct model.revision" in said


def test_a_hub_that_is_down_is_given_up_in_the_end(folder):
    with serving(Hub(FILES, refusals={"/revision/": [(500, {})] * 20})) as hub:
        code, said = run(hub, folder)
    assert code == 1 and "gave up after 10 attempts" in said
    pauses = [int(line.split()[1]) for line in said.splitlines() if line.startswith("pause")]
    assert pauses == sorted(pauses) and max(pauses) == 301


@pytest.mark.parametrize(
    ("files", "wanted", "words"),
    [
        ({"pytorch_model.bin": WEIGHTS}, {}, "set storage.download.pickles to true"),
        ({"README.md": b"x"}, {}, "has no weights such as *.safetensors"),
        (FILES, {"ignore": ["*.safetensors"]}, "set storage.download.pickles to true"),
        (FILES, {"allow": ["*.gguf"]}, "see storage.download.allow"),
    ],
    ids=["pickles only", "no weights", "ignored", "not allowed"],
)  # fmt: skip
def test_a_model_without_safe_weights_is_refused(folder, files, wanted, words):
    with serving(Hub(files)) as hub:
        code, said = run(hub, folder, **wanted)
        assert hub.asked("/resolve/") == []
    assert code == 1 and words in said


def test_patterns_choose_files(folder):
    files = {**FILES, "a/one.gguf": WEIGHTS, "a/two.gguf": WEIGHTS}
    with serving(Hub(files)) as hub:
        assert run(hub, folder, allow=["a/*"], ignore=["*two*"])[0] == 0
    assert_complete(folder, {"a/one.gguf": WEIGHTS})
    with serving(Hub(files)) as hub:
        assert run(hub, folder.with_name("all"), pickles=True)[0] == 0
    assert_complete(folder.with_name("all"), files)


def test_a_path_out_of_the_folder_is_refused(folder):
    with serving(Hub({"../../evil.safetensors": WEIGHTS})) as hub:
        code, said = run(hub, folder)
    assert code == 1 and "leads out of the model's folder" in said


def test_the_token_goes_to_the_hub_only(folder):
    with serving(Hub(FILES)) as store, serving(Hub(FILES)) as hub:
        hub.elsewhere = store.url
        assert run(hub, folder)[0] == 0
        assert {token for _, _, token in hub.requests} == {"Bearer secret"}
        assert {token for _, _, token in store.requests} == {""}
    assert_complete(folder)


def test_a_disk_that_is_too_small_or_full_says_so(folder):
    small = "import shutil\nshutil.disk_usage = lambda p: type('U', (), {'free': 1000})"
    full = textwrap.dedent("""
        import errno, pathlib
        opened = pathlib.Path.open
        class Full:
            def __init__(self, file): self.file = file
            def __enter__(self): return self
            def __exit__(self, *_): self.file.close()
            def __getattr__(self, name): return getattr(self.file, name)
            def write(self, data): raise OSError(errno.ENOSPC, "No space left on device")
        def open_full(self, *words, **more):
            file = opened(self, *words, **more)
            return Full(file) if words == ("a+b",) else file
        pathlib.Path.open = open_full
    """)
    with serving(Hub(FILES)) as hub:
        code, said = run(hub, folder, small)
        assert code == 1 and "the disk is full" in said and hub.asked("/resolve/") == []
        code, said = run(hub, folder, full)
        assert code == 1 and "No space left" in said and "raise storage.cache.sizeLimit" in said
        assert len(hub.asked("model.safetensors")) <= 1, "tried again"
    assert not (folder / "manifest").exists()


def test_waiting_ends_with_the_manifest(folder):
    with serving(Hub(FILES)) as hub:
        assert run(hub, folder)[0] == 0
    manifest = (folder / "manifest").read_text()
    (folder / "manifest").unlink()
    come = f"""def sleep(seconds):
        print("pause", seconds, flush=True)
        open({str(folder / "manifest")!r}, "w").write({manifest!r})
time.sleep = sleep"""
    env = environment(None, folder)
    done = subprocess.run(command(come, "wait"), env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "waiting for" in done.stdout and done.stdout.count("pause") == 1


# Object stores.

RCLONE = """\
#!/bin/sh
# Copies as rclone does, as far as the script can tell: rclone copy|check SOURCE TARGET …, filters from standard input.
echo "$1 $2" >>"$LOG"
[ "$RCLONE_CONFIG" = /dev/null ] || exit 9
cat >"$LOG.filter"
[ "$1" != "$FAILS" ] || exit 3
[ "$1" != copy ] || { mkdir -p "$3" && cp -r "$BUCKET/." "$3"; }
"""


def fetch(tmp_path: Path, files: dict[str, bytes], **env: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The shell script's end, and the folder."""
    tools, bucket, folder = tmp_path / "bin", tmp_path / "bucket", tmp_path / "cache/0123"
    for path in (tools, bucket, folder.parent):
        path.mkdir(exist_ok=True, parents=True)
    (tools / "rclone").write_text(RCLONE)
    (tools / "rclone").chmod(0o755)
    for name, data in files.items():
        (bucket / name).parent.mkdir(exist_ok=True)
        (bucket / name).write_bytes(data)
    said = {
        "SOURCE": ":s3:bucket/a",
        "FOLDER": str(folder),
        "TARGET": f"{folder}/bucket/a",
        "ALLOW": "",
        "IGNORE": "*.pt",
    }
    given = {"PATH": f"{tools}:{os.environ['PATH']}", "BUCKET": str(bucket), "LOG": str(tmp_path / "log"), "FAILS": ""}
    done = subprocess.run(["sh", SHELL], env=said | given | env, capture_output=True, text=True, timeout=60)
    return done, folder


def test_a_bucket_is_copied_compared_and_then_complete(tmp_path):
    done, folder = fetch(tmp_path, {"model.plan": b"12345", "1/with space.txt": b"x"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text().splitlines() == ["copy :s3:bucket/a", "check :s3:bucket/a"]
    lines = set((folder / "manifest").read_text().splitlines())
    assert lines == {"- 5 bucket/a/model.plan", "- 1 bucket/a/1/with space.txt"}
    again, _ = fetch(tmp_path, {})
    assert again.returncode == 0 and len((tmp_path / "log").read_text().splitlines()) == 2
    waits = {"folder": str(folder), "path": "x"}
    env = {**os.environ, "DOWNLOAD": json.dumps(waits)}
    assert subprocess.run(command("", "wait"), env=env, capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("step", ["copy", "check"])
def test_a_copy_that_fails_is_not_complete(tmp_path, step):
    done, folder = fetch(tmp_path, {"model.plan": b"1"}, FAILS=step)
    assert done.returncode != 0 and not (folder / "manifest").exists()


def test_an_empty_bucket_is_not_complete(tmp_path):
    done, folder = fetch(tmp_path, {})
    assert done.returncode == 1 and "none of the files" in done.stdout and not (folder / "manifest").exists()


def test_sums_that_come_with_the_model_are_checked(tmp_path):
    line = f"{hashlib.sha256(b'1').hexdigest()}  model.plan\n".encode()
    done, folder = fetch(tmp_path, {"model.plan": b"2", "SHA256SUMS": line})
    assert done.returncode != 0 and not (folder / "manifest").exists()
    done, folder = fetch(tmp_path, {"model.plan": b"1", "SHA256SUMS": line})
    assert done.returncode == 0, done.stderr


def test_sums_of_files_that_were_left_out_are_not_checked(tmp_path):
    def line(name: str, data: bytes) -> bytes:
        return f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()

    left_out = line("model.pt", b"2")
    files = {"1/with space.txt": b"1", "SHA256SUMS": left_out + line("1/with space.txt", b"1")}
    done, folder = fetch(tmp_path / "a", files)
    assert done.returncode == 0 and (folder / "manifest").exists(), done.stderr
    done, folder = fetch(tmp_path / "b", {**files, "1/with space.txt": b"3"})
    assert done.returncode != 0 and not (folder / "manifest").exists()
    done, folder = fetch(tmp_path / "c", {"model.plan": b"1", "SHA256SUMS": left_out})
    assert done.returncode == 1 and "names none of the files" in done.stdout and not (folder / "manifest").exists()
    done, folder = fetch(tmp_path / "d", {"model.plan": b"1", "SHA256SUMS": b""})
    assert done.returncode == 0 and (folder / "manifest").exists(), "an empty list says nothing"


@pytest.mark.parametrize(
    ("allow", "ignore", "rules"),
    [
        ("", "", []),
        ("", "*.pt\nx/**", ["- *.pt", "- x/**"]),
        ("*.plan\n*.json", "*.pt", ["- *.pt", "+ *.plan", "+ *.json", "- **"]),
    ],
)
def test_patterns_become_filters(tmp_path, allow, ignore, rules):
    done, _ = fetch(tmp_path, {"model.plan": b"1"}, ALLOW=allow, IGNORE=ignore)
    assert done.returncode == 0, done.stderr
    assert [line for line in (tmp_path / "log.filter").read_text().splitlines() if line] == rules
