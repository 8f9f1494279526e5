"""JUnit XML: a test case for each set of values."""

from __future__ import annotations

from xml.etree import ElementTree

from gpu_inference.report import Report, Reporter


class JunitReporter(Reporter):
    """A suite with a case for everything checked; its failures are the findings that count, the others its output."""

    def write(self, report: Report) -> None:
        failures = report.failures
        suite = ElementTree.Element("testsuite", name="gpu-inference validate", errors="0")
        failed = 0
        for name in report.checked:
            case = ElementTree.SubElement(suite, "testcase", classname="values", name=name)
            files = set(name.split(" + "))
            own = [finding for finding in report.findings if finding.file in files]
            for finding in own:
                text = f"{finding.file}:{finding.line}:{finding.column}: {finding.path}: {finding.message}."
                text += f" Fix: {finding.fix}."
                if finding in failures:
                    ElementTree.SubElement(case, "failure", type=finding.rule, message=finding.message).text = text
                else:
                    ElementTree.SubElement(case, "system-out").text = text
            failed += any(finding in failures for finding in own)
        suite.set("tests", str(len(report.checked)))
        suite.set("failures", str(failed))
        ElementTree.indent(suite)
        print('<?xml version="1.0" encoding="utf-8"?>', file=self.out)
        print(ElementTree.tostring(suite, encoding="unicode"), file=self.out)
