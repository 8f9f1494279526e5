"""SARIF 2.1.0, which code scanning services read."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from gpu_inference.report import Finding, Report, Reporter
from gpu_inference.validate.catalogue import catalogue

_LEVEL = {"error": "error", "warning": "warning", "info": "note"}


class SarifReporter(Reporter):
    """One run. A result's fingerprint is made of rule, file and path, so that it stays the same when lines move.
    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html.
    """

    def write(self, report: Report) -> None:
        rules = sorted({finding.rule for finding in report.findings})
        driver = {
            "name": "gpu-inference",
            "version": version("gpu-inference"),
            "rules": [_rule(rule) for rule in rules],
        }
        log = {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {"driver": driver},
                    "columnKind": "unicodeCodePoints",
                    "results": [_result(finding, rules) for finding in report.findings],
                }
            ],
        }
        json.dump(log, self.out, indent=2, ensure_ascii=False)
        print(file=self.out)


def _rule(name: str) -> dict[str, Any]:
    rule = catalogue()[name]
    links = {"helpUri": rule.evidence[0]} if rule.evidence else {}
    return {
        "id": name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": f"{rule.summary} {rule.why}"},
        **links,
        "defaultConfiguration": {"level": _LEVEL[rule.severity]},
    }


def _result(finding: Finding, rules: list[str]) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": _LEVEL[finding.severity],
        "message": {"text": f"{finding.path}: {finding.message}. Fix: {finding.fix}."},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(finding.file.removeprefix("./"))},
                    "region": {"startLine": finding.line, "startColumn": finding.column},
                }
            }
        ],
        "partialFingerprints": {"gpuInference/v1": finding.fingerprint},
    }
