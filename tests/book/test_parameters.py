"""Parameters of every chapter: declared, checked, and shown."""

import re
from types import SimpleNamespace

import nbformat
import pytest
from tiny_hsi_drive import write_matlab_release

from hsiutils.book import chapters as chapter_room
from hsiutils.book import parameters as module
from hsiutils.book.build import chapter_parameters
from hsiutils.book.chapters import chapters, settings
from hsiutils.book.parameters import LEGAL, Declared, ParameterError, declared, make_run, parse_list, sweep, table
from hsiutils.paper.run import Run, profile

BOOK = chapters()
each_chapter = pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)
WRONG = {
    "int": (None, True, 0.0, 1.5, float("nan"), float("inf"), "1", "", [1], [], -1, 10**12, {"a": 1}),
    "str": (True, 1.5, float("nan"), ["a"], [], "no such thing", {"a": 1}, b"a"),
    "list[str]": (True, 1.5, float("nan"), [], (), [None], [1.5], [["a"]], [""], {"a": 1}, "{a: 1}", "[1"),
}
RIGHT = {
    "variants": ["3", "[1, 25-PN]", ["PCA-2"], None, ""],
    "models": ["3", ["1", "25-PN"], None],
    "scene": ["quantile:0.25"],
}
RIGHT |= {"layers": [["a", "b"], None], "model": ["a.b:c"], "seed": [0, 2**32 - 1], "nodes": [100], "pixels": [409]}
RIGHT |= {name: [4] for name in ("scenes", "band_scenes", "without_scenes")}
RIGHT |= {name: ["", None] for name in ("data_root", "weights", "spectra", "camvid", "image", "lane", "layer")}


@each_chapter
def test_every_parameter_is_declared_with_its_type_legal_values_and_a_sentence(path):
    (cell,) = [
        cell for cell in nbformat.read(path, as_version=4).cells if "parameters" in cell.metadata.get("tags", [])
    ]
    known = declared(path)
    assert list(known)[:3] == ["profile", "seed", "data_root"]
    assert list(known) == re.findall(r"^(\w+)", cell.source, re.MULTILINE)  # all are read by papermill
    for name, one in known.items():
        assert one.type == LEGAL[name].type
        assert len(one.sentence) > 5


@each_chapter
def test_a_chapter_of_the_smallest_book_has_legal_parameters_whatever_its_defaults(path):
    run, known = make_run({"profile": "smoke", "seed": 0, "data_root": ""}), declared(path)
    given = chapter_parameters(path, run)
    assert given.keys() >= {"profile", "seed"}
    make_run({name: one.default for name, one in known.items()} | given)
    assert all(value == 4 for name, value in given.items() if name not in ("profile", "seed"))


@each_chapter
def test_a_wrong_value_of_any_parameter_of_any_chapter_is_named_at_once(path, monkeypatch):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    (cell,) = [cell for cell in cells if "settings(profile=" in cell]
    start = re.search(r"^(own \|?= .*\n)*.*settings\(profile=.*", cell, re.MULTILINE)[0]  # and nothing before or after
    defaults = {name: one.default for name, one in declared(path).items()} | {"profile": "smoke"}
    monkeypatch.setattr(Run, "data", property(lambda run: pytest.fail("rendered scenes")))

    def check(name, value):
        kernel = SimpleNamespace(user_ns={"In": ["", cells[0], f"# Parameters\n{name} = {value!r}"]})
        monkeypatch.setattr(chapter_room, "get_ipython", lambda: kernel)
        exec(start, {**defaults, name: value, "settings": settings})  # noqa: S102 (our own chapter)

    for name, default in defaults.items():
        for value in [default if not LEGAL[name].spare else 1, *RIGHT.get(name, [])]:
            check(name, value)
        for value in WRONG[LEGAL[name].type]:
            if (name == "seed" and value == 10**12) or value not in RIGHT.get(name, []):
                with pytest.raises(ParameterError, match=rf"^parameter {name}: expected .*; got ") as told:
                    check(name, value)
                assert "\n" not in str(told.value)
    with pytest.raises(ParameterError, match="unknown parameter 'profil': did you mean 'profile'"):
        check("profil", "smoke")


def test_what_is_legal_is_known_without_rendering_and_read_from_real_data(tmp_path):
    run = Run(profile("smoke"), seed=3)
    names = module.test_scenes(run)
    assert len(names) == 4
    assert all(module.split_of(name) == "test" for name in names)
    real = Run(profile("smoke"), 0, write_matlab_release(tmp_path / "set"), ("3",))
    tests, classes = real.data.names("test"), ", ".join(real.data.classes.names)
    assert module.test_scenes(real) == tests
    assert LEGAL["class_name"].words(real) == LEGAL["class_name"].words(run) == f"one of {classes}"
    assert LEGAL["scenes"].words(real) == f"1 to {len(tests)}, the test scenes"
    assert LEGAL["pixels"].words(real).startswith(f"1 to {real.data.sensor.tiles[0] * real.data.sensor.tiles[1] // 5},")
    assert not LEGAL["variants"].takes(["bands:25"], real)


def test_lists_are_read_with_every_item_as_text():
    assert parse_list('[1, "25-PN", no, 1]') == ("1", "25-PN", "no")
    assert parse_list((1, "a")) == ("1", "a")
    assert parse_list(None) == parse_list("") == ()


KNOWN = {
    "class_name": Declared("str", "Road", "class"),
    "seed": Declared("int", 0, "seed"),
    "variants": Declared("list[str]", None, "inputs"),
    "data_root": Declared("str", "", "folder"),
    "model": Declared("str", "a.b:c", "network"),
}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], [{}]),
        (["class_name=Road Marks"], [{"class_name": "Road Marks"}]),
        (["class_name=Sky, Road", "seed=1"], [{"class_name": name, "seed": 1} for name in ("Sky", "Road")]),
        (["class_name='a, b'"], [{"class_name": "a, b"}]),
        (["class_name=no,010"], [{"class_name": "no"}, {"class_name": "010"}]),
        (["seed=0,1,1"], [{"seed": 0}, {"seed": 1}]),
        (["seed=1.5"], [{"seed": "1.5"}]),
        (["variants=[1, 25-PN]"], [{"variants": ["1", "25-PN"]}]),
        (["variants=[1],[3,25]"], [{"variants": ["1"]}, {"variants": ["3", "25"]}]),
        (["variants=3"], [{"variants": "3"}]),
        (["variants=None"], [{"variants": None}]),
        (["data_root="], [{"data_root": ""}]),
        (["model=a.b:d"], [{"model": "a.b:d"}]),
    ],
    ids=str,
)
def test_a_sweep_is_all_combinations_and_lists_stand_in_brackets(items, expected):
    assert sweep(items, KNOWN) == expected


def test_paths_are_of_the_folder_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sweep(["data_root=a,2024", "model=m.pt2"], KNOWN) == [
        {"data_root": str(tmp_path / name), "model": str(tmp_path / "m.pt2")} for name in ("a", "2024")
    ]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["seed"], "-p seed: expected NAME=VALUE"),
        (["sed=1"], "unknown parameter 'sed': did you mean 'seed'"),
        (["seed=1", "seed=2"], "parameter seed comes twice: several values are seed=VALUE,VALUE"),
        (["variants=1,3"], r"variants: a list is written in brackets: variants=\[1,3\] is one"),
        (["class_name=[a"], "parameter class_name: .* cannot be read"),
        (["class_name=,"], "parameter class_name: .* cannot be read"),
        (
            [f"seed={','.join(map(str, range(21)))}", "class_name=a,b"],
            "21 seed x 2 class_name are 42 pages: at most 40",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_told(items, message):
    with pytest.raises(ParameterError, match=message) as told:
        sweep(items, KNOWN)
    assert "\n" not in str(told.value)


def test_a_table_says_which_values_differ_and_escapes_what_came():
    plain = table(KNOWN, {name: one.default for name, one in KNOWN.items()}, None, "5")
    assert "Parameters: all as by default" in plain
    assert "on this page" not in plain
    values = {name: one.default for name, one in KNOWN.items()} | {"class_name": "<b>", "variants": ["1", "3"]}
    shown = table(KNOWN, values, make_run({"profile": "smoke"}), "5")
    assert "Parameters: class_name &lt;b&gt;, variants [1, 3]</summary>" in shown
    assert shown.count('<td data-head="on this page"><b>') == 2
    assert "Road, Road Marks, Vegetation, Sky, Other" in shown
    assert "\n\n" not in shown  # which would end the HTML in a page's source


def test_a_wrong_parameter_is_shown_by_a_notebook_without_a_traceback():
    assert ParameterError("parameter a: b")._render_traceback_() == ["ParameterError: parameter a: b"]


@pytest.mark.parametrize("text", ["&a [*a]", "[" * 5000, "{a: 1}"])
def test_what_is_no_list_of_text_is_refused_whatever_yaml_makes_of_it(text):
    with pytest.raises(ValueError, match=r"expected a list|cannot be read"):
        parse_list(text)


def test_a_tag_is_no_instruction_and_numbers_keep_their_text():
    assert parse_list('[!!python/object/apply:os.getcwd "x", 1.10, on]') == ("x", "1.10", "on")
