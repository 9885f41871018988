"""One helm for all tests, and what the chart makes of each case of values."""

from __future__ import annotations

import pytest

from tests.chart.helm import Helm, Object
from tests.chart.rendered import CASES


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module", params=CASES)
def objects(request: pytest.FixtureRequest, helm: Helm) -> list[Object]:
    return helm.render(CASES[request.param])
