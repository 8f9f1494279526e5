"""A test that takes `case` runs on every values set; one that takes `major` on Helm 3 and 4."""

from __future__ import annotations

import pytest
from support.matrix import CLOUDS, Case, cases
from support.render import MAJORS
from support.switches import combined
from support.views import Model, models


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", [*cases(), *map(combined, CLOUDS)], ids=str, scope="session")
    if "major" in metafunc.fixturenames:
        metafunc.parametrize("major", MAJORS, ids="helm{}".format)


@pytest.fixture(name="models")
def _models(case: Case) -> list[Model]:
    """The models of a case; a values set without any proves nothing."""
    found = models(case)
    assert found, f"{case} defines no models"
    return found
