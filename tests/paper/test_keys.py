"""Every kind of artefact that the book makes, and what its key depends on."""

import dataclasses
import re
import shutil
import time
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path

import grimp
import planted
import pytest

from hsiutils.book import build
from hsiutils.book.chapters import chapters
from hsiutils.data.layouts import DatasetError
from hsiutils.models.keras import write_keras
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper import (
    activations,
    bands,
    conservativeness,
    designs,
    explorer,
    foretold,
    physics,
    robustness,
    sanity,
    spectra,
    store,
    table1,
)
from hsiutils.paper import run as runs

PLOTTING = ("bokeh", "holoviews", "panel", "matplotlib")
CHAPTER_5 = {"survey", "untrained", "materials", "knock-out", "fields", "similarity"}
CHAPTER_6 = {"designs"}
CHAPTER_7 = {"feeding", "spectra", "foretold", "swapped", "band-maps", "path", "completeness"}
CHAPTER_4 = {"audit", "randomisation", "survival", "leaderboard", "sanity", "walls"}
CHAPTER_3 = {"counts", "edges", "relit", "pixels"}
EXPLORER = {"explorer"}
NETWORKS = {"model", "published"} | EXPLORER | CHAPTER_3 | CHAPTER_4 | CHAPTER_5 | CHAPTER_6 | CHAPTER_7


@pytest.fixture(scope="module")
def asked(tiny_run, tmp_path_factory):
    """What the store is asked for, by kind, of a run on a real data root; nothing is built."""
    found, folder = {}, tmp_path_factory.mktemp("keys")

    def artefact(kind, build, inputs, *, uses=(), **kwargs):
        found[kind] = partial(store.describe, kind, build, inputs, uses)
        return store.Artefact(folder / kind, {})

    def artefacts(kind, build, inputs, **kwargs):
        return [artefact(kind, build, own) for own in inputs]

    root = tiny_run.data.root
    real = dataclasses.replace(tiny_run, data_root=root)
    write_keras(UNet(UNetConfig(channels=3, depth=1, filters=2)), folder / "model.h5")
    scene = real.data.names("test")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "artefact", artefact)
        patch.setattr(store, "artefacts", artefacts)
        patch.setattr(build, "_mirror", lambda site, target: None)
        patch.setattr(runs, "side_by_side", lambda calls, *_: {name: call() for name, call in calls.items()})
        with pytest.MonkeyPatch.context() as sun:
            sun.setattr(robustness, "sunny", lambda run: [scene])
            _try(robustness.relit_changes, tiny_run, "25-PN", 0)
        _try(spectra.run_counts, real)
        _try(designs.run_counts, real, [[0.0] * 25])
        dataclasses.replace(real, variants=("3",), weights=folder / "model.h5").networks([("3", 0)])
        found["published"] = found.pop("model")
        build.build_site({}, root=Path(build.__file__).parents[2])
        found |= {f"chapter {path.stem}": _asked_chapter(path, real, found) for path in chapters()}
        _try(build.ledger, real)
        _try(lambda run: run.data, dataclasses.replace(tiny_run))
        network = ("25-PN", 0)
        for measure in (activations.head_sums, activations.input_edges, activations.material_sums, activations.fields):
            _try(measure, real, *network)
        _try(robustness.edge_counts, real, *network)
        of_bands = (bands.feeding, bands.spectra, foretold.foretold, bands.swapped)
        for measure in (*of_bands, sanity.revisited, sanity.walls, table1.counts_of):
            _try(measure, real, *network)
        with pytest.MonkeyPatch.context() as sums:
            sums.setattr(activations, "head_sums", lambda *_: planted.sums(planted.planted(), planted.scenes(2)))
            _try(activations.knocked, real, *network)
        for measure in (conservativeness.residuals, conservativeness.randomisation, conservativeness.board):
            _try(measure, real, *network, scene)
        _try(conservativeness.survival, real, "25-PN", [scene])
        _try(explorer.explored, real, "25-PN")
        _try(physics.answers, tiny_run, *network)  # of simulated scenes alone
        _try(activations.similarity_sums, real)
        _try(bands.band_maps, real, "25-PN", scene, "Road")
        _try(bands.walked, real, "25-PN", "Road", 1)
        _try(bands.completeness, real, "25-PN")
    return found


def _try(measure, *arguments):
    with suppress(OSError, DatasetError):  # what was asked for was not made
        measure(*arguments)


def _asked_chapter(path, real, found):
    build.executed_chapter(path, real)
    return found.pop("chapter")


@pytest.fixture(scope="module")
def edited(asked, tmp_path_factory):
    """Kinds whose keys change with a line at the end of a file of the package, tried on a copy."""
    package = tmp_path_factory.mktemp("copy") / "hsiutils"
    shutil.copytree(store.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))

    def keys():
        store.code.cache_clear()
        return {kind: key(package=package) for kind, key in asked.items()}

    def edit(path, line="EDITED = 1"):
        own = (package / path).read_bytes()
        (package / path).write_bytes(own + f"\n{line}\n".encode())
        after = keys()
        (package / path).write_bytes(own)
        return {kind for kind in asked if before[kind] != after[kind]}

    before = keys()
    yield edit
    store.code.cache_clear()


def test_no_kind_is_missing(asked):
    texts = [path.read_text() for path in store.PACKAGE.rglob("*.py")]
    calls = r'(?:study|together|_of_scene)\(run, "([\w-]+)"|artefacts?\(\s*"([\w-]+)"'
    named = {one or other for text in texts for one, other in re.findall(calls, text)}
    of_a_study = {"bands", "spread", "corrected"}  # which no chapter asks for
    assert named == {kind.partition(" ")[0] for kind in asked} - {"published"} | of_a_study


def test_a_key_changes_with_what_its_builder_imports_and_with_nothing_else(asked, edited):
    """The import graph of another tool is the judge."""
    graph = grimp.build_graph("hsiutils", cache_dir=None, exclude_type_checking_imports=True)
    for module in store._UNCOUNTED:  # nor what only these import
        graph.remove_module(module)
    expected = {}
    for kind, key in asked.items():
        _, builder, _, uses = key.args
        own = {name for name, _ in store.makers(builder)} | (set(uses) & graph.modules)
        expected[kind] = own.union(*(graph.find_upstream_modules(name) for name in own - {store.__name__}))
    for path in store.PACKAGE.rglob("*.py"):
        place = path.relative_to(store.PACKAGE.parent).with_suffix("")
        module = ".".join(place.parent.parts if place.name == "__init__" else place.parts)
        assert edited(path.relative_to(store.PACKAGE)) == {kind for kind in asked if module in expected[kind]}, module


def test_networks_on_real_data_know_neither_simulator_nor_pictures(asked, edited):
    for path in (*store.PACKAGE.glob("simulate/*.py"), *store.PACKAGE.glob("plots/*.py")):
        assert not edited(path.relative_to(store.PACKAGE)) & NETWORKS
    for kind in NETWORKS:
        assert not set(asked[kind]()["environment"]) & set(PLOTTING)
    of_chapters = {kind for kind in asked if kind.startswith("chapter")}
    assert edited("simulate/objects.py") == {"data", "physics", "ledger"} | of_chapters


def test_measuring_code_measures_its_own_chapter_anew(edited):
    for name, kinds in (
        ("conservativeness", CHAPTER_4 | EXPLORER),
        ("activations", CHAPTER_5),
        ("bands", CHAPTER_7 | EXPLORER),
    ):
        assert edited(f"paper/{name}.py") & NETWORKS == kinds
    assert edited("models/train.py") & NETWORKS == {"model"}
    assert edited("paper/published.py") & NETWORKS == {"published"}
    assert edited("paper/table1.py") & NETWORKS == {"counts"}
    assert edited("paper/study.py") & NETWORKS == NETWORKS - {"model", "published"}


def test_data_files_count_where_they_are_read(edited):
    assert edited("data/bands.csv", "#") >= NETWORKS
    assert edited("paper/claims.yaml", "#") == {"ledger", "chapter index", "chapter ledger"}
    assert edited("data/bands.csv", "#").isdisjoint({"site"})


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("bokeh", {"site"}),
        ("jupyter-book", {"site"}),
        ("pvlib", {"data", "physics"}),
        ("scikit-image", set()),
        ("captum", CHAPTER_4 | CHAPTER_7 | EXPLORER | {"physics"}),
        ("pytorch-lightning", {"model"}),
        ("xarray", NETWORKS | {"data", "physics"}),
        ("holoviews", set()),
        ("dask", set()),
    ],
)
def test_versions_count_where_they_are_imported(asked, monkeypatch, name, kinds):
    before, version = {kind: key() for kind, key in asked.items()}, metadata.version
    monkeypatch.setattr(metadata, "version", lambda asked: version(asked) + "+1" * (asked == name))
    store.versions.cache_clear()
    changed = {kind for kind, key in asked.items() if key() != before[kind]}
    store.versions.cache_clear()
    assert {kind for kind in changed if not kind.startswith(("chapter", "ledger"))} == kinds


def test_all_keys_of_a_warm_book_take_a_second(asked):
    store.code.cache_clear()
    started = time.process_time()
    for key in asked.values():
        key()
    assert time.process_time() - started < 1
