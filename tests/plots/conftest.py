import pytest

from hsiutils.plots.base import start


@pytest.fixture(scope="session", autouse=True)
def _backend():
    start()
