"""One tiny run for all tests that need scenes and networks: made once a session, in a store of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hsiutils.models.recipe import Recipe
from hsiutils.paper.run import Profile, Run
from hsiutils.simulate import frame

settings.register_profile(
    "untimed",
    deadline=None,  # a busy machine is no failure
    suppress_health_check=[HealthCheck.differing_executors],  # mutmut runs a class's tests twice in a process
)
settings.load_profile("untimed")

TINY = Profile(
    name="tiny",
    scenes=10,
    tiles=(16, 32),
    variants=("3", "25-PN"),
    models=2,
    depth=2,
    filters=2,
    norm_momentum=0.1,
    recipe=Recipe(epochs=2, batch=2),
)


@pytest.fixture(scope="session", autouse=True)
def _streets_are_kept() -> Iterator[None]:
    """Many tests photograph the same few streets: what rays meet there is found out once by each process."""
    known, follow = {}, frame.build_surfaces

    def build(conditions, seed, shape, sun, *others):
        key = conditions, seed, shape, sun.tobytes(), others
        if key not in known:
            known[key] = follow(conditions, seed, shape, sun, *others)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "build_surfaces", build)
        yield


@pytest.fixture(scope="session")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that lasts for the session; kernels and workers inherit it through the environment."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent  # shared by the workers: its locks keep them out of each other's way
    root = base / "store"
    before = os.environ.get("HSIUTILS_STORE")
    os.environ["HSIUTILS_STORE"] = str(root)
    yield root
    if before is None:
        del os.environ["HSIUTILS_STORE"]
    else:
        os.environ["HSIUTILS_STORE"] = before


@pytest.fixture(scope="session")
def tiny_run(store_root: Path) -> Iterator[Run]:
    """Two variants, two seeds, ten scenes; by one process, because so little is made sooner than others start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hsiutils.paper.run.workers", lambda: 1)
        yield Run(TINY, seed=0, variants=TINY.variants)
