"""Rules about secrets, code that comes with a model, and doors that are left open."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from gpu_inference.resolve import fetcher, scheme, served
from gpu_inference.secrets import tokens
from gpu_inference.validate.schema_errors import Mistake, show
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

_SECRET = "keep it in a Secret: externalSecrets makes one, and {secretKeyRef: {name: …, key: …}} takes it"
# Variables and flags that hold a secret, by their names; a text that is put in later is none.
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|API_?KEY|PASSWORD|PASSWD|SECRET|SECRET_KEY|SECRET_ACCESS_KEY)$")
_SECRET_FLAG = re.compile(r"--(?:[a-z]+-)*(?:api-key|hf-token|password)(?:=(?P<value>.*))?")
_PUT_IN_LATER = re.compile(r"<.*>|\$[({].*[)}]|ref\+.*|ENC\[.*|EMPTY|none|dummy|", re.IGNORECASE | re.DOTALL)
COMMIT = re.compile(r"[0-9a-f]{40}")
_BRANCHES = ("main", "master", "HEAD")
_REMOTE_CODE = re.compile(r"--trust[-_]remote[-_]code(=(?i:true|1))?")
# Formats that torch.load reads. vLLM 0.33.0: vllm/config/load.py
_PICKLES = ("pt", "npcache")
# Of hubs and object stores, for whoever downloads.
_DOWNLOAD_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def release(values: Mapping[str, Any]) -> Iterator[Mistake]:
    """Secrets anywhere in the values."""
    for path, text in _texts(values):
        for found in tokens(text):
            yield Mistake("literal-token", path, f"{found} is written out, for all who can read the file", _SECRET)
    for name, obj in values["extraObjects"].items():
        if isinstance(obj, Mapping) and (obj.get("kind"), obj.get("apiVersion")) == ("Secret", "v1"):
            yield from _secret(("extraObjects", name), obj)


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _texts(below, (*path, index))


def _secret(path: Path, obj: Mapping[str, Any]) -> Iterator[Mistake]:
    """A Secret in values is none."""
    for field in ("data", "stringData"):
        entries = obj.get(field)
        for key, value in entries.items() if isinstance(entries, Mapping) else ():
            text = _decoded(value) if field == "data" else value
            if isinstance(text, str) and not _PUT_IN_LATER.fullmatch(text):
                what = "; ".join(tokens(text)) or f"{len(text)} characters"
                message = f"a Secret's content, {what}, is written out, for all who can read the file"
                yield Mistake("secret-in-values", (*path, field, key), message, "make it with externalSecrets")


def _decoded(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError, TypeError):
        return value


def _variables(model: Model) -> Iterator[Mistake]:
    for at, entries in (("env", model.spec["env"]), ("storage.download.env", model.spec["storage"]["download"]["env"])):
        for name, value in entries.items():
            if isinstance(value, str) and _SECRET_NAME.search(name) and not _known(value):
                message = f"{name} is written out, {len(value)} characters, for all who can read the file"
                path: Path = ("models", model.name, *at.split("."), name)
                yield Mistake("literal-secret", path, message, _SECRET, severity="warning")
    args = list(map(str, model.spec["extraArgs"]))
    for index, arg in enumerate(args):
        flag = _SECRET_FLAG.fullmatch(arg)
        value = (flag["value"] or "".join(args[index + 1 : index + 2])) if flag else ""
        if flag and not value.startswith("--") and not _known(value):
            name = arg.partition("=")[0]
            message = f"the value of {name} is written out, and everybody who may list pods can read it"
            fix = "set it in env from a Secret, and name the variable here: $(NAME)"
            yield Mistake(
                "literal-secret", ("models", model.name, "extraArgs", index), message, fix, severity="warning"
            )


def _known(value: str) -> bool:
    """Whether a text is no secret, or reported as one already."""
    return bool(_PUT_IN_LATER.fullmatch(value)) or any(tokens(value))


def _token_of_the_server(model: Model) -> Iterator[Mistake]:
    """What downloads beforehand has variables of its own."""
    by = fetcher(model.spec, model.runtime)
    if by not in ("pod", "job"):
        return
    for name in _DOWNLOAD_SECRETS:
        if isinstance(model.spec["env"].get(name), Mapping):
            what = "model.tokenSecret" if name.startswith("H") else f"storage.download.env.{name}"
            message = f"the server downloads nothing, and whoever gets into it would have {name}"
            mistake = model.mistake("token-in-server", f"env.{name}", message, f"move it to {what}")
            yield _warning(mistake)


def _remote_code(model: Model) -> Iterator[Mistake]:
    revision = model.spec["model"].get("revision", "")
    if scheme(model.spec["model"]["source"]) != "hf" or COMMIT.fullmatch(revision):
        return
    for index, arg in enumerate(model.spec["extraArgs"]):
        if _REMOTE_CODE.fullmatch(str(arg)):
            what = f", of {revision}" if revision else ""
            message = f"runs the Python that comes with the model{what}, also what is pushed there next"
            fix = "review the code, and set model.revision to the commit's 40 hexadecimal digits"
            yield Mistake("remote-code", ("models", model.name, "extraArgs", index), message, fix)


def _pickles(model: Model) -> Iterator[Mistake]:
    download, form = model.spec["storage"]["download"], model.spec["model"].get("loadFormat")
    if form not in _PICKLES or download["pickles"]:  # which says that it is known
        return
    message, mild = f"{form} loads pickles, files that can run code", True
    if fetcher(model.spec, model.runtime) in ("pod", "job"):
        message, mild = f"{message}, which the download leaves out: there would be nothing to load", False
    mistake = model.mistake("pickled-weights", "model.loadFormat", message, "use safetensors, or convert the model")
    yield _warning(mistake) if mild else mistake


def _revision(model: Model) -> Iterator[Mistake]:
    revision = model.spec["model"].get("revision", "")
    if scheme(served(model.spec, model.runtime)) == "hf" and revision in _BRANCHES:
        message = f"{revision} moves: two pods may serve different weights under one name"
        fix = "set it to a commit, 40 hexadecimal digits"
        yield _warning(model.mistake("moving-revision", "model.revision", message, fix))


def _egress(model: Model) -> Iterator[Mistake]:
    policy = model.spec["networkPolicy"]
    for index, rule in enumerate(policy["egressTo"] if policy["enabled"] else ()):
        path: Path = ("models", model.name, "networkPolicy", "egressTo", index)
        fix = "name whom the server must reach, by ipBlock, namespaceSelector or podSelector"
        blocks = [peer["ipBlock"] for peer in rule.get("to") or () if isinstance(peer.get("ipBlock"), Mapping)]
        if not rule.get("to"):
            message = "names nobody, and so lets the server send data to anywhere"
            yield _warning(Mistake("open-egress", path, message, fix))
        elif any(_everything(block) for block in blocks) and not rule.get("ports"):
            message = "is every address, so the server can send data to anywhere"
            yield _warning(Mistake("open-egress", path, message, fix))


def _everything(block: Mapping[str, Any]) -> bool:
    try:
        return ip_network(str(block.get("cidr"))).prefixlen == 0 and not block.get("except")
    except ValueError:
        return False


def _account(model: Model) -> Iterator[Mistake]:
    pod = model.spec["pod"]
    if pod.get("automountServiceAccountToken"):
        message = "the server, and whoever gets into it, may do in the cluster what its account may"
        own = not model.spec["serviceAccount"]["create"]
        mistake = model.mistake("account-token", "pod.automountServiceAccountToken", message, "remove it")
        yield _warning(mistake) if own else mistake
    if pod.get("enableServiceLinks"):
        name = model.spec["runtime"].split("-")[0]
        variable = f"{name.upper()}_PORT"
        message = f"a Service called {name} would set {variable} to tcp://…, which is no port"
        yield _warning(model.mistake("service-links", "pod.enableServiceLinks", message, "remove it"))


def _directories(model: Model) -> Iterator[Mistake]:
    """What the runtime writes to, taken away with `false`, on a root file system that is read-only."""
    defaults = model.runtime.get("defaults", {})
    known = {**model.values["modelDefaults"].get("writable", {}), **defaults.get("writable", {})}
    mounted = _mounted(model.spec)
    for name, directory in known.items() if not _writable_root(model) else ():
        path = directory.get("path", "") if isinstance(directory, Mapping) else ""
        if path and name not in model.spec["writable"] and not _below(path, mounted):
            message = f"{model.spec['runtime']} writes to {path}, and the root file system is read-only"
            fix = f"remove it, or mount a volume at {path}"
            yield model.mistake("read-only-directory", f"writable.{name}", message, fix)
    for name in ("HOME", "USER"):
        value = model.spec["env"].get(name)
        if name in defaults.get("env", {}) and value is None:
            message = f"user {model.spec['security']['runAsUser']} has no entry in the image's passwd to tell {name}"
            yield model.mistake("home", f"env.{name}", message, "remove it, or set another")
        elif name == "HOME" and isinstance(value, str) and not (_below(value, mounted) or _writable_root(model)):
            fix = f"set it to one of {', '.join(sorted(mounted))}, or add {value} to writable"
            yield model.mistake("home", "env.HOME", f"{show(value)} cannot be written to", fix)


def _writable_root(model: Model) -> bool:
    return not model.spec["security"]["readOnlyRootFilesystem"]


def _mounted(spec: Mapping[str, Any]) -> list[str]:
    """Paths that can be written to."""
    volumes = [volume.get("mount", {}) for volume in spec["volumes"].values()]
    paths = [mount.get("mountPath", "") for mount in volumes if not mount.get("readOnly")]
    paths += [directory.get("path", "") for directory in spec["writable"].values()]
    paths += [claim["mountPath"] for claim in spec["claims"].values()]
    return ["/cache", *filter(None, paths)]


def _below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _budget(model: Model) -> Iterator[Mistake]:
    scaling = model.spec["autoscaling"]
    pods = scaling["minReplicas"] if scaling["enabled"] else model.spec["replicas"]
    own = any(obj.get("kind") == "PodDisruptionBudget" for obj in model.values["extraObjects"].values() if obj)
    if pods > 1 and not (model.spec["pdb"]["enabled"] or own):
        message = f"a node drain may take all {pods} pods at once"
        yield _warning(model.mistake("no-disruption-budget", "pdb.enabled", message, "remove it"))


def _warning(mistake: Mistake) -> Mistake:
    return replace(mistake, severity="warning")


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (
    _variables,
    _token_of_the_server,
    _remote_code,
    _pickles,
    _revision,
    _egress,
    _account,
    _directories,
    _budget,
)
