from pathlib import Path

import pytest

from hsiutils.book import chapters as module
from hsiutils.book.chapters import check_names, parse_list, settings
from hsiutils.models.keras import write_keras
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.run import profile


def test_defaults_are_the_quick_profile_on_simulated_scenes():
    run = settings()
    assert (run.profile.name, run.seed, run.data_root) == ("quick", 0, None)
    assert run.variants == profile("quick").variants


@pytest.mark.parametrize(
    "given",
    ['["1", "25-PN"]', "[1, 25-PN]", ["1", "25-PN"], ("1", "25-PN")],
    ids=["json", "yaml", "list", "tuple"],
)
def test_variants_may_come_as_text_or_as_a_list(given):
    assert settings(profile="smoke", variants=given).variants == ("1", "25-PN")


def test_one_variant_needs_no_brackets():
    assert settings(variants="25-PN").variants == ("25-PN",)
    assert parse_list("3", "variants") == ("3",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"profile": "fast"}, "unknown profile 'fast'"),
        ({"seed": -1}, "parameter seed: expected a whole number"),
        ({"seed": "1"}, "parameter seed"),
        ({"seed": True}, "parameter seed"),
        ({"variants": "['1'"}, "parameter variants: expected a list"),
        ({"variants": "{a: 1}"}, "parameter variants: expected a list"),
        ({"variants": ["26"]}, "26"),
    ],
)
def test_values_that_do_not_fit_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        settings(**wrong)


def test_data_root_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_root"):
        settings(data_root=str(tmp_path / "nowhere"))
    assert settings(data_root=str(tmp_path)).data_root == tmp_path


def test_misspelt_parameter_is_an_error_with_a_hint(monkeypatch):
    monkeypatch.setattr(module, "_injected_names", lambda: ["profile", "sed"])
    with pytest.raises(ValueError, match="unknown parameter 'sed': did you mean 'seed'"):
        settings()


def test_a_chapters_own_parameters_are_known(monkeypatch):
    monkeypatch.setattr(module, "_injected_names", lambda: ["scene"])
    assert settings(scene="nf1111_576").seed == 0


def test_without_a_near_name_the_known_ones_are_listed():
    with pytest.raises(ValueError, match="unknown parameter 'zzz': This chapter takes profile, seed"):
        check_names(["zzz"], ["profile", "seed"])


def test_injected_names_are_read_from_papermills_cell(monkeypatch):
    class Shell:
        def __init__(self):
            self.user_ns = {"In": ["", "x = 1", "# Parameters\nseed = 1\nprofil = 'smoke'\n"]}

    monkeypatch.setattr(module, "get_ipython", Shell)
    assert module._injected_names() == ["seed", "profil"]


class TestWeights:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        write_keras(UNet(UNetConfig(classes=6, depth=2, filters=2)), tmp_path / "model.h5")
        return tmp_path / "model.h5"

    def test_empty_means_that_the_run_trains(self):
        for empty in ("", None):
            assert settings(profile="smoke", weights=empty).weights is None

    def test_a_file_is_one_network_with_the_papers_input(self, path, monkeypatch):
        run = settings(profile="smoke", weights=str(path))
        assert (run.weights, run.variants, run.seeds) == (path, ("25-PN",), (0,))
        monkeypatch.chdir(path.parent)
        assert settings(weights="model.h5").weights == path

    def test_the_input_may_be_named(self, path):
        assert settings(weights=str(path), variants="[25]").variants == ("25",)
        assert settings(weights=str(path), variants="[1, 25-PN]").variants == ("25-PN",)
        with pytest.raises(ValueError, match=r"model\.h5 takes 25 channels. .* 3 of 3; none fits"):
            settings(weights=str(path), variants="[3]")

    def test_a_file_must_be_there_and_whole(self, path, tmp_path):
        for wrong in ("none.h5", ""):
            with pytest.raises(FileNotFoundError, match=r"parameter weights: .* is not a file; expected a Keras file"):
                settings(weights=str(tmp_path / wrong))
        path.write_bytes(path.read_bytes()[:999])
        with pytest.raises(ValueError, match=r"model\.h5: cannot be read as a Keras file"):
            settings(weights=str(path))

    def test_a_chapter_that_does_not_take_it_says_so(self, monkeypatch):
        monkeypatch.setattr(module, "_injected_names", lambda: ["weights"])
        with pytest.raises(ValueError, match="unknown parameter 'weights'"):
            settings(profile="smoke", variants="")
        assert settings(profile="smoke", weights="").weights is None
