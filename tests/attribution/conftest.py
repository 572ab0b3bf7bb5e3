import pytest
from networks import shaken, trained


@pytest.fixture(scope="session", params=[shaken, trained])
def model(request):
    """A network with random weights, and one that was fitted; nobody changes them."""
    return request.param()
