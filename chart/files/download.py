"""Downloads a model of the Hugging Face Hub, or waits until it is there, with Python's standard library alone.

Reads DOWNLOAD from the environment, JSON: source (hf://organisation/name), folder, path (in folder, where the files
go) and, optional, revision, allow and ignore (patterns of files), pickles (whether formats that run code when they are
loaded are taken). HF_TOKEN and HF_ENDPOINT are optional, too. `download.py wait` downloads nothing.

One download at a time holds the lock <folder>.lock. What was cut off is resumed, and every checksum of the Hub is
compared. <folder>/manifest, a line "<sha256> <bytes> <file>" for each, appears when all is there. Exit 0 then, 1 with a
message else. Facts about the Hub are from huggingface_hub 2.4.0: hf_api.py, utils/_http.py.
"""

import concurrent.futures
import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

# Formats that can run code when they are loaded, or are loaded through Python's pickle.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib", "*.h5", "*.keras")
WEIGHTS = ("*.safetensors", "*.gguf", "*.onnx", "*.engine", "*.plan")
CHUNK = 4 << 20  # bytes
AT_ONCE = 4  # files
ATTEMPTS = 10  # in a row without a byte
LONGEST_PAUSE = 300  # seconds, which is the window of the Hub's rate limits


class Problem(Exception):
    """What another attempt would not change."""


class Changed(Exception):
    """The bytes are not those of the Hub."""


class SameHost(urllib.request.HTTPRedirectHandler):
    """Files come from another host, to which the token does not go."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


class Hub:
    """The Hub's HTTP API, for one repository at one commit."""

    def __init__(self, repository, revision):
        self.endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        self.repository = repository
        self.opener = urllib.request.build_opener(SameHost())
        at = urllib.parse.quote(revision, safe="")
        self.commit = patiently(lambda: self.json(f"/api/models/{repository}/revision/{at}")[0])["sha"]

    def open(self, url, first_byte=0):
        """An answer to read from. HTTPError, OSError."""
        request = urllib.request.Request(urllib.parse.urljoin(self.endpoint + "/", url.lstrip("/")))
        if os.environ.get("HF_TOKEN"):
            request.add_header("Authorization", f"Bearer {os.environ['HF_TOKEN'].strip()}")
        if first_byte:
            request.add_header("Range", f"bytes={first_byte}-")
        return self.opener.open(request, timeout=60)

    def json(self, url):
        with self.open(url) as answer:
            return json.load(answer), answer.headers

    def files(self):
        """Every file: {path, size, oid, lfs: {oid: sha256} where it is a large one}."""
        url = f"/api/models/{self.repository}/tree/{self.commit}?recursive=true"
        while url:
            entries, headers = patiently(lambda url=url: self.json(url))
            yield from (entry for entry in entries if entry["type"] == "file")
            following = re.search(r'<([^>]+)>; *rel="next"', headers.get("Link") or "")
            url = following and following.group(1)

    def file(self, path, first_byte):
        return self.open(f"/{self.repository}/resolve/{self.commit}/{urllib.parse.quote(path)}", first_byte)


def patiently(ask, progress=lambda: 0):
    """What ask() returns. Failures that may pass are waited out, as long as some attempt in ten makes progress."""
    failures, before = 0, progress()
    while True:
        try:
            return ask()
        except (OSError, http.client.HTTPException, ValueError) as error:
            refuse(error)
            failures, before = (0 if progress() != before else failures) + 1, progress()
            if failures >= ATTEMPTS:
                raise Problem(f"gave up after {failures} attempts: {error}") from error
            seconds = pause(error, failures)
            say(f"{error}; again in {seconds:.0f} s")
            time.sleep(seconds)


def refuse(error):
    """Problem for errors that would come again."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        raise Problem(f"the disk is full ({error}): raise storage.cache.sizeLimit or the size of the claim") from error
    if not isinstance(error, urllib.error.HTTPError) or error.code in (408, 429) or error.code >= 500:
        return
    what = error.headers.get("X-Error-Code") or f"status {error.code}"
    hint = {
        "RevisionNotFound": "there is no such revision: correct model.revision",
        "GatedRepo": "accept the model's terms with the account of model.tokenSecret",
        "RepoNotFound": "there is no such model, or model.tokenSecret may not see it",
        "EntryNotFound": "the file is gone",
    }.get(what, "correct model.source or model.tokenSecret")
    raise Problem(f"{error.url}: {what}: {hint}") from error


def pause(error, failures):
    """Seconds to wait: what the server says, or longer each time."""
    headers = getattr(error, "headers", None) or {}
    said = re.match(r"\d+", headers.get("Retry-After") or "")
    said = said or re.search(r"(?<=;t=)\d+", headers.get("RateLimit") or "")
    return min(int(said.group()) if said else 2**failures, LONGEST_PAUSE) + 1


def chosen(files, wanted):
    """The files to take. Problem when there are no weights among them."""
    allow, ignore = wanted.get("allow", ["*"]), wanted.get("ignore", [])
    named = [f for f in files if matches(f["path"], allow) and not matches(f["path"], ignore)]
    pickles = wanted.get("pickles", False)
    taken = [f for f in named if pickles or not matches(f["path"], PICKLES)]
    for file in taken:
        if file["path"].startswith("/") or ".." in file["path"].split("/"):
            raise Problem(f"{file['path']}: leads out of the model's folder")
    if not any(matches(f["path"], WEIGHTS + (PICKLES if pickles else ())) for f in taken):
        trust = "set storage.download.pickles to true if you trust it"
        hint = trust if len(named) > len(taken) else "see storage.download.allow and ignore"
        raise Problem(f"{wanted['source']} has no weights such as {', '.join(WEIGHTS[:3])}: {hint}")
    if len(named) > len(taken):
        say(f"left out, as they can run code: {', '.join(f['path'] for f in named if f not in taken)}")
    return taken


def matches(path, patterns):
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


class Transfer:
    """One file on its way from the Hub to the disk."""

    def __init__(self, hub, entry, target, suffix, count):
        self.hub, self.entry, self.count = hub, entry, count
        self.size = entry["lfs"]["size"] if "lfs" in entry else entry["size"]
        self.path = target / entry["path"]
        self.partial = self.path.with_name(self.path.name + suffix)
        self.got = 0

    def run(self):
        """The file's sha256, when it is there and right."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():  # left by a download that was stopped
            with self.path.open("rb") as file:
                sums = self.sums(file)
            if self.right(sums):
                return sums[0].hexdigest()
        for _ in range(3):
            try:
                return patiently(self.attempt, lambda: self.got)
            except Changed as error:
                say(f"{self.entry['path']}: {error}; from the start")
                self.partial.unlink()
        raise Problem(f"{self.entry['path']}: the checksum is not the Hub's")

    def attempt(self):
        with self.partial.open("a+b") as file:
            file.seek(0)
            sums = self.sums(file)
            if self.got < self.size:
                with self.hub.file(self.entry["path"], self.got) as answer:
                    if self.got and answer.status != 206:
                        raise Changed("the server does not resume")
                    self.add(answer, sums, file)
            file.flush()
            os.fsync(file.fileno())
        if self.got < self.size:
            raise ConnectionError(f"{self.entry['path']}: cut off at {self.got} of {self.size} bytes")
        if not self.right(sums):
            raise Changed("wrong checksum")
        self.partial.replace(self.path)
        return sums[0].hexdigest()

    def sums(self, file):
        """[sha256, git's name] of what a file has already, which counts as got."""
        self.count(-self.got)
        self.got = 0
        sums = [hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.size)]
        self.add(file, sums, None)
        return sums

    def add(self, source, sums, file):
        """Reads all of a source, and writes it into a file if there is one."""
        while data := source.read(CHUNK):
            if file:
                file.write(data)
                file.flush()
            for each in sums:
                each.update(data)
            self.got += len(data)
            self.count(len(data))

    def right(self, sums):
        """The Hub knows a large file by its sha256, a small one as git does."""
        large = "lfs" in self.entry
        wanted = self.entry["lfs"]["oid"] if large else self.entry["oid"]
        return self.got == self.size and sums[0 if large else 1].hexdigest() == wanted


def download(wanted):
    """Fetches what is missing, then writes the manifest."""
    folder, target = Path(wanted["folder"]), Path(wanted["path"])
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as suffix:
        if complete(folder):
            return
        hub = Hub(wanted["source"].removeprefix("hf://"), wanted.get("revision", "main"))
        files = chosen(list(hub.files()), wanted)
        size = sum(f["size"] for f in files)
        there = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        if size - there > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, f"{wanted['source']} takes {size / 1e9:.1f} GB")
        say(f"{wanted['source']} at {hub.commit}: {len(files)} files, {size / 1e9:.1f} GB")
        lines = fetch_all(hub, files, target, suffix, size)
        temporary = folder / f"manifest{suffix}"
        temporary.write_text("".join(f"{s} {f['size']} {target.relative_to(folder) / f['path']}\n" for f, s in lines))
        temporary.replace(folder / "manifest")


def fetch_all(hub, files, target, suffix, size):
    """[(file, sha256)] of all files, several at once; the first problem stops the rest."""
    done, lock = [0], threading.Lock()

    def count(more):
        with lock:
            done[0] += more

    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    tasks = [pool.submit(Transfer(hub, file, target, suffix, count).run) for file in files]
    pending = set(tasks)
    while pending:
        ended, pending = concurrent.futures.wait(pending, 30, concurrent.futures.FIRST_EXCEPTION)
        for task in ended:
            task.result()  # or its problem; what still runs ends with the process
        say(f"{done[0] / 1e9:.1f} of {size / 1e9:.1f} GB")
    return [(file, task.result()) for file, task in zip(files, tasks)]  # noqa: B905 - Python 3.9


@contextlib.contextmanager
def locked(folder):
    """Waits for the folder's lock. Gives the suffix of unfinished files."""
    with Path(f"{folder}.lock").open("a") as file:
        suffix = ".partial"
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another pod downloads this model: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have none: then every pod has files of its own
            say(f"no lock on this file system: {error}")
            suffix = f".{socket.gethostname()}.partial"
        yield suffix


def complete(folder):
    """Whether there is a manifest, and every file in it at its size."""
    try:
        lines = (folder / "manifest").read_text().splitlines()
        sizes = [line.split(" ", 2)[1:] for line in lines]
        return all((folder / name).stat().st_size == int(size) for size, name in sizes)
    except FileNotFoundError:
        return False


def wait(folder):
    minutes = 0
    while not complete(folder):
        if minutes % 60 == 0:
            say(f"waiting for {folder}/manifest, which the download's Job writes")
        minutes += 5
        time.sleep(5)


def say(text):
    print(text, flush=True)


def main():
    # As process 1 it would not be ended by the signal; what it leaves is resumed.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    wanted = json.loads(os.environ["DOWNLOAD"])
    try:
        try:
            wait(Path(wanted["folder"])) if sys.argv[1:] == ["wait"] else download(wanted)
        except OSError as error:
            refuse(error)
            raise Problem(str(error)) from error
    except Problem as problem:
        say(f"failed: {problem}")
        return 1
    say(f"{wanted['path']} is complete")
    return 0


if __name__ == "__main__":
    os._exit(main())  # at once, whatever other files are on their way
