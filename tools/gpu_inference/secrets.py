"""Tokens and keys by what they look like, so that none is kept in a file, and none printed."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What -> its form, of which the first group may be shown. Most are in https://github.com/gitleaks/gitleaks (v8.30).
_FORMS = {
    "a Hugging Face token": r"\b(hf_|api_org_)[A-Za-z0-9]{30,}",
    "an NVIDIA key": r"\b(nvapi-)[A-Za-z0-9_-]{40,}",
    "an API key": r"\b(sk-)(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",
    "an AWS access key": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Google API key": r"\b(AIza)[A-Za-z0-9_-]{35}\b",
    "a GitHub token": r"\b(gh[pousr]_|github_pat_)[A-Za-z0-9_]{22,}",
    "a GitLab token": r"\b(glpat-)[A-Za-z0-9_-]{20,}",
    "a Slack token": r"\b(xox[abeprs]-)[A-Za-z0-9-]{10,}",
    "a JSON web token": r"\b(eyJ)[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "a private key": r"(-----BEGIN )(?:[A-Z0-9]+ )*PRIVATE KEY-----",
}
_ANY = re.compile("|".join(f"(?:{form})" for form in _FORMS.values()))


def tokens(text: str) -> Iterator[str]:
    """What is in a text, as `a Hugging Face token (hf_…, 37 characters)`."""
    for what, form in _FORMS.items():
        for found in re.finditer(form, text):
            yield f"{what} ({found[1].strip('- ')}…, {len(found[0])} characters)"


def redacted(text: str) -> str:
    """The text without the secret part of any token."""
    return _ANY.sub(lambda found: next(filter(None, found.groups())) + "…", text)
