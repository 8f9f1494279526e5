"""Tokens are known by their form, and no way to print a report shows one."""

from __future__ import annotations

import pytest

from gpu_inference.cli import main
from gpu_inference.reporters import FORMATS
from gpu_inference.secrets import redacted, tokens

# Put together, so that nothing takes this file for one that holds them.
SECRETS = {
    "hf_": "A1b2" * 9,
    "nvapi-": "A1b2C3d4-_" * 6,
    "sk-": "proj-A1b2C3d4E5f6G7h8",
    "AKIA": "A1B2C3D4E5F6G7H8",
    "AIza": "A1b2C3d" * 5,
    "ghp_": "A1b2C3d4" * 5,
    "github_pat_": "A1b2C3d4" * 5,
    "glpat-": "A1b2C3d4" * 3,
    "xoxb-": "1234567890-abc",
    "eyJ": "hbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0." + "c2lnbmF0dXJl",
}
HARMLESS = (
    "hf_transfer",
    "skip-tokenizer-init",
    "sk-a-long-name-of-a-model-without-digits",
    "registry.example.com/a/b:v1",
    "AKIA",
    "-----BEGIN CERTIFICATE-----",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
)
MODEL = "models:\n  a:\n    runtime: vllm\n    model: {source: 'pvc://a/b'}\n    accelerator: {type: nvidia-l4}\n"


@pytest.mark.parametrize("prefix", SECRETS)
def test_a_token_is_known_and_hidden(prefix):
    token = prefix + SECRETS[prefix]
    (found,) = tokens(f"--key={token}")
    assert f"{len(token)} characters" in found and SECRETS[prefix] not in found
    assert redacted(f"{token} and {token}") == f"{prefix}… and {prefix}…"


def test_a_private_key_is_known():
    assert list(tokens("-----BEGIN RSA " + "PRIVATE KEY-----\nMII")) == ["a private key (BEGIN…, 31 characters)"]


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_is_left_alone(text):
    assert list(tokens(text)) == []
    assert redacted(text) == text


BY_FORM, BY_NAME = "hf_" + SECRETS["hf_"], "correct-horse-battery-staple"
PLACES = {
    "    podAnnotations: {a: %s}\n": BY_FORM,
    "    extraArgs: [--hf-token, %s]\n": BY_FORM,
    "    replicas: %s\n": BY_FORM,
    "    runtime: %s\n": BY_FORM,
    "    %s: 1\n": BY_FORM,
    "    env: {SOME_PASSWORD: %s}\n": BY_NAME,
    "    extraArgs: [--api-key=%s]\n": BY_NAME,
    "extraObjects: {s: {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: %s}}}\n": BY_NAME,
}


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_shows_a_secret(form, tmp_path, capsys):
    files = [tmp_path / f"{number}.yaml" for number in range(len(PLACES))]
    for file, (text, secret) in zip(files, PLACES.items(), strict=True):
        file.write_text(MODEL + text % secret)
    main(["validate", *map(str, files), "-o", form])
    out = capsys.readouterr().out
    assert all(file.name in out for file in files)
    assert BY_FORM not in out and BY_NAME not in out
