import ast
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from filelock import Timeout
from tiny_book import outputs, rewrite, write_book

from hsiutils import book
from hsiutils.book import chapters as module
from hsiutils.book.chapters import (
    chapters,
    find_chapter,
    page_of,
    run_chapter,
    settings,
)
from hsiutils.book.parameters import declared
from hsiutils.book.processes import turn
from hsiutils.models.keras import write_keras
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.run import Run, profile

BOOK = chapters()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_book(tmp_path / "project")


def chapter(project: Path, *code: str) -> Path:
    return rewrite(project / "book" / "01_plot.ipynb", *code)


def test_no_chapter_makes_a_figure_or_table_that_nobody_sees():
    lost = []
    for path in BOOK:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code" or "remove-output" in cell.metadata.get("tags", []):
                continue
            for statement in ast.parse(cell.source).body[:-1]:  # only the last is shown
                called = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(called, ast.Call) and getattr(called.func, "id", "") in (
                    "show",
                    "table",
                    "sortable",
                    "cards",
                ):
                    lost.append(f"{path.stem}, {cell.id}")
    assert lost == []


def test_chapters_come_in_the_order_of_the_contents_and_must_be_there(project):
    assert [path.stem for path in chapters(project)] == ["index", "01_plot"]
    (project / "book" / "01_plot.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match="names 'book/01_plot'"):
        chapters(project)
    for wrong in ("", "chapters: []", "root: book/index\nchapters: [book/01_plot]", "root: [\n", "- root"):
        (project / "_toc.yml").write_text(wrong)
        with pytest.raises(ValueError, match=r"_toc\.yml: expected a root, and chapters each with a file; [^\n]*$"):
            chapters(project)


def test_chapters_are_found_by_number_name_and_path(project):
    for name in ("1", "01_plot", "01", str(project / "book" / "01_plot.ipynb")):
        assert find_chapter(name, project).stem == "01_plot"
    with pytest.raises(ValueError, match="no chapter '9'"):
        find_chapter("9", project)
    assert page_of(4) == "04_conservativeness.html"


def test_parameters_reach_the_chapter_and_no_trace_of_the_run_stays(project, tmp_path):
    code = "from tqdm import tqdm\nfor _ in tqdm(range(3), disable=False):\n    pass\nprint(factor * 21)"
    out, path = tmp_path / "out.ipynb", chapter(project, code)
    with ThreadPoolExecutor(2) as pool:  # two runs into one file do not disturb each other
        list(pool.map(lambda _: run_chapter(path, out, {"factor": 2}, progress=False), range(2)))
    assert "42\n" in outputs(out)
    assert [text for text in outputs(out) if text] == ["42\n"]  # and no progress bar
    text = out.read_text()
    assert "papermill" not in text.replace("injected-parameters", "")
    assert str(tmp_path) not in text
    assert "start_time" not in text
    assert [path.name for path in tmp_path.glob("*.ipynb")] == ["out.ipynb"]


def test_a_kernel_starts_in_its_turn_and_the_next_may_as_soon_as_it_runs(project, tmp_path, monkeypatch, store_root):
    path, ran = chapter(project, "from hsiutils.book.processes import turn", "turn().acquire(timeout=60)"), []

    def starting(*given, run=module.papermill.execute_notebook, **options):
        with pytest.raises(Timeout):
            turn().acquire(timeout=0)
        ran.append(run(*given, **options))

    monkeypatch.setattr(module.papermill, "execute_notebook", starting)
    run_chapter(path, tmp_path / "out.ipynb", {}, progress=False)
    assert len(ran) == 1


def test_misspelt_parameter_and_failing_cell_are_named_and_no_output_appears(project, tmp_path):
    with pytest.raises(ValueError, match="unknown parameter 'facto': did you mean 'factor'"):
        run_chapter(chapter(project, "1"), tmp_path / "out.ipynb", {"facto": 1}, progress=False)
    assert not list(tmp_path.glob("*.ipynb"))  # nothing ran
    with pytest.raises(module.ChapterError, match=r"01_plot.ipynb, cell \d+: ZeroDivisionError"):
        run_chapter(chapter(project, "1 / 0"), tmp_path / "out.ipynb", {}, progress=False)
    assert [path.name for path in tmp_path.glob("*.ipynb")] == ["out.unfinished.ipynb"]


def test_prepared_chapter_has_its_parameters_and_did_not_run(project, tmp_path):
    module.prepare_chapter(chapter(project, "print(factor)"), tmp_path / "out.ipynb", {"factor": 7})
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert any(cell.source.startswith("# Parameters") and "factor = 7" in cell.source for cell in notebook.cells)
    assert outputs(tmp_path / "out.ipynb") == []


def test_imports_are_found_as_modules_and_names_of_the_front_door_where_they_stand(project):
    path = chapter(project, "import numpy\nfrom hsiutils.paper import run\nimport hsiutils.data.cube")
    assert module.imported_modules(path) == ("hsiutils.data.cube", "hsiutils.paper.run", "numpy")
    path = chapter(project, "import hsiutils as hu\nfrom hsiutils import Classes\nhu.reflectance_cube")
    assert module.imported_modules(path) == ("hsiutils.data.classes", "hsiutils.data.raw")


def test_outputs_are_not_what_a_chapter_is(project, tmp_path):
    path = chapter(project, "print(1)")
    before = module.sources(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nbformat.write(notebook, path)
    assert module.sources(path) == before
    assert module.sources(chapter(project, "print(2)")) != before


@pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)
def test_committed_chapters_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    assert not set(notebook.metadata) - {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not set(cell.metadata) - {"tags", "mystnb"}
        assert not [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if "nbval-check-output" in cell.metadata.get("tags", []):
            assert cell.outputs, f"{path.name}: a cell promises an output and holds none:\n{cell.source}"
            assert cell.execution_count, f"{path.name}: nbval takes this output for a mistake:\n{cell.source}"
        elif cell.cell_type == "code":
            assert not cell.outputs, f"{path.name}: outputs are made by the build, not committed:\n{cell.source}"


@pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)
def test_a_chapter_imports_from_four_rooms_at_most_and_every_figure_has_a_caption_and_a_name_of_its_own(path):
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    found = set(re.findall(r"^ *(?:from|import) hsiutils\.(\w+)", code, flags=re.MULTILINE))
    assert len(found) <= 4, sorted(found)
    if path.stem[:2] in ("04", "05", "07"):  # on what a network does: they take a published one
        assert {"weights", "variants"} <= set(declared(path))
        assert "run.remarks()" in code
        assert "profile.depth" not in code  # the file's network may have another
    figures = [cell.metadata["mystnb"]["figure"] for cell in cells if "show(" in cell.source]
    assert all(figure["caption"].strip() for figure in figures)
    assert len({figure["name"] for figure in figures}) == len(figures)


@pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)
def test_every_figure_says_which_data_it_shows(path, tmp_path):
    values = {name: 7 for name in ("seed",) if name in declared(path)}
    prepared, cells = tmp_path / path.name, nbformat.read(path, as_version=4).cells
    module.prepare_chapter(path, prepared, values)
    said = {
        cell.id: cell.metadata.mystnb.figure.caption
        for cell in nbformat.read(prepared, 4).cells
        if "mystnb" in cell.metadata and "figure" in cell.metadata.mystnb
    }
    stamp = ' Simulated scenes, <a href="#provenance">profile quick, seed 7</a>'
    real = re.compile("real (spectra|class means)|released", re.IGNORECASE)
    for cell in (cell for cell in cells if cell.id in said):
        own, beside = (tag in cell.metadata.tags for tag in (module.OWN_DATA, module.AND_REAL))
        caption = cell.metadata.mystnb.figure.caption
        end = ", beside real data." if beside else "."
        assert said[cell.id] == (caption if own else caption + stamp + end)
        assert own or beside == bool(real.search(caption)), caption
        assert not own or re.search("simulated|record|measured|published|theoretical|invented", caption.lower()), (
            caption
        )


def test_no_dimension_method_is_selected_by_xarrays_own_argument():
    """`found.sel(method=name)` selects nothing: there it says how to look up what is not there."""
    package = sorted(module.project().glob("hsiutils/**/*.py"))
    cells = [cell.source for path in BOOK for cell in nbformat.read(path, as_version=4).cells]
    for text in [*(path.read_text() for path in package), *cells]:
        assert not re.search(r"\.(sel|reindex)\([^()]*\bmethod=", text)


def test_figures_of_all_chapters_have_names_of_their_own():
    cells = [cell for path in BOOK for cell in nbformat.read(path, as_version=4).cells]
    figures = [cell.metadata.get("mystnb", {}).get("figure") for cell in cells]
    names = [figure["name"] for figure in figures if figure]
    assert sorted(names) == sorted(set(names))


def test_a_checkout_is_where_the_package_is_or_where_one_stands(project, tmp_path, monkeypatch):
    assert (book.project() / "_toc.yml").is_file()
    monkeypatch.setattr(book, "_SOURCE", tmp_path)  # as installed
    monkeypatch.chdir(project)
    assert book.project() == project
    assert [path.stem for path in chapters()] == ["index", "01_plot"]
    monkeypatch.chdir(tmp_path)
    for needs_it in (chapters, lambda: find_chapter("1")):
        with pytest.raises(FileNotFoundError, match=f"needs a checkout .* there is none in {tmp_path}"):
            needs_it()


class TestSettings:
    def test_defaults_are_the_quick_profile_on_simulated_scenes(self):
        assert settings() == settings(data_root=None) == Run(profile("quick"), variants=profile("quick").variants)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ('["1", "25-PN"]', ("1", "25-PN")),
            ("[1, 25-PN]", ("1", "25-PN")),
            (["1", "25-PN"], ("1", "25-PN")),
            ((1, "25-PN", "1"), ("1", "25-PN")),
            ("25-PN", ("25-PN",)),
            (3, ("3",)),
            ("", profile("smoke").variants),
            (None, profile("smoke").variants),
        ],
        ids=str,
    )
    def test_variants_may_come_as_text_or_as_a_list(self, given, expected):
        assert settings(profile="smoke", variants=given).variants == expected

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"profile": "fast"}, "parameter profile: expected text, one of smoke, quick, record, paper; got 'fast'"),
            ({"seed": 2**32}, "parameter seed: expected a whole number, 0 to 4294967295; got 4294967296"),
            ({"variants": "['1'"}, "parameter variants: expected a list, inputs such as"),
            ({"variants": "no"}, "parameter variants: expected a list, .* got 'no'"),
            ({"variants": [None]}, "parameter variants: expected a list"),
            ({"variants": []}, "parameter variants: expected a list"),
            ({"variants": ["26"]}, "parameter variants: .*; got .'26'."),
            ({"variants": "bands:3,25"}, "parameter variants"),  # HSI-Drive has the bands 0 to 24
            ({"data_root": ["a"]}, "parameter data_root: expected text, a folder that is there; or empty; got .'a'."),
            ({"data_root": "nowhere"}, "parameter data_root: expected text, a folder that is there"),
            ({"weights": False}, "parameter weights: expected text, a Keras file .* got False"),
            ({"scenes": 999}, "parameter scenes: expected a whole number, 1 to 26, the test scenes; got 999"),
            ({"class_name": "sky"}, "parameter class_name: .*Sky, Other; got 'sky'; did you mean 'Sky'"),
            (
                {"layer": 5},
                "parameter layer: .*; got 5; papermill takes what looks like a number as text with -r layer",
            ),
        ],
        ids=str,
    )
    def test_values_that_do_not_fit_are_named(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            settings(**wrong)

    def test_folders_may_look_like_numbers(self, tmp_path, monkeypatch):
        (tmp_path / "2024").mkdir()
        monkeypatch.chdir(tmp_path)
        assert settings(data_root=str(tmp_path)).data_root == tmp_path
        assert settings(data_root=2024).data_root == tmp_path / "2024"  # as papermill reads -p data_root 2024

    def test_a_file_is_one_network_with_the_papers_input_or_the_one_that_is_named(self, tmp_path, monkeypatch):
        path = tmp_path / "model.h5"
        write_keras(UNet(UNetConfig(classes=6, depth=2, filters=2)), path)
        run = settings(profile="smoke", weights=str(path))
        assert (run.weights, run.variants, run.seeds) == (path, ("25-PN",), (0,))
        monkeypatch.chdir(path.parent)
        assert settings(weights="model.h5").weights == path
        assert settings(weights=str(path), variants="[25]").variants == ("25",)
        assert settings(weights=str(path), variants="[1, 25-PN]").variants == ("25-PN",)
        assert settings(weights="model.h5", layer="conv2d_10").profile.depth == 5  # and the file's network 2
        with pytest.raises(ValueError, match=r"parameter layer: .*, conv2d_10; or empty; got 'conv2d_11'"):
            settings(weights="model.h5", layer="conv2d_11")
        with pytest.raises(ValueError, match=r"parameter weights: .*model\.h5.* none fits"):
            settings(weights="model.h5", variants="[3]")

    @pytest.fixture
    def papermill(self, monkeypatch):
        """Cells as of a notebook that papermill prepared: what was given."""

        def prepared(given: str) -> None:
            kernel = SimpleNamespace(user_ns={"In": ["", f"# Parameters\n{given}\n", "%matplotlib"]})
            monkeypatch.setattr(module, "get_ipython", lambda: kernel)

        return prepared

    def test_misspelt_parameters_are_errors_with_a_hint(self, papermill):
        for given, message in {
            "sed = 1": "unknown parameter 'sed': did you mean 'seed'",
            "zzz = 1": "unknown parameter 'zzz': This chapter takes profile, seed",
            "weights = 'model.h5'": "unknown parameter 'weights'",
        }.items():
            papermill(given)
            with pytest.raises(ValueError, match=message):
                settings(variants="")

    def test_a_default_of_more_scenes_than_there_are_means_all_and_the_same_wish_is_an_error(self, papermill):
        papermill("profile = 'smoke'")
        assert settings(profile="smoke", scenes=8).seed == 0
        papermill("scenes = 8")
        with pytest.raises(ValueError, match=r"parameter scenes: expected a whole number, 1 to 4, .*; got 8"):
            settings(profile="smoke", scenes=8)
