from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hsiutils.data.compare import kind, read_reference, remade
from hsiutils.data.cube import make_cube, pn
from hsiutils.data.inputs import fit_variant, variant
from hsiutils.data.raw import reflectance_cube
from hsiutils.data.sensor import HSI_DRIVE, NOT_MEASURED, Peak, Sensor, band_table, bands_from_table
from hsiutils.data.source import open_dataset
from hsiutils.simulate import Simulation, write_dataset

TABLE = (
    pd.DataFrame({"centre_nm": np.linspace(480, 620, 16), "fwhm_nm": 12.0, "quantum_efficiency": 0.25, "share": 0.8})
    .iloc[::-1]
    .reset_index(drop=True)
)

SECOND = {"centre_nm2": 900.0, "fwhm_nm2": 8.0, "quantum_efficiency2": 0.1, "share2": 0.1}


def chip(table: pd.DataFrame = TABLE, tiles: tuple[int, int] = (8, 16)) -> Sensor:
    rows, columns = (4 * size for size in tiles)
    return Sensor("toy 4x4", (4, 4), (rows + 3, columns), (2, 0), tiles, bands_from_table(table))


class TestBandTable:
    def test_a_row_is_a_filter_in_the_order_of_the_table(self) -> None:
        bands = bands_from_table(TABLE)
        assert [band.index for band in bands] == list(range(16))
        assert bands[0].centre_nm == 620
        assert bands[0].peaks == (Peak(620, 12, 0.25, 0.8),)
        assert bands[0].clip_max == NOT_MEASURED

    def test_a_second_peak_and_limits_where_there_are_any(self) -> None:
        table = TABLE.join(pd.DataFrame(SECOND, [0])).assign(clip_max=0.1)
        bands = bands_from_table(table)
        assert bands[0].peaks[1] == Peak(900, 8, 0.1, 0.1)
        assert len(bands[1].peaks) == 1
        assert bands[5].clip_max == 0.1

    @pytest.mark.parametrize("line", ["{:.1f};12;0.25;0.8", "{:.1f};12,0;0,25;0,8"])
    def test_text_is_read_as_numbers_with_a_decimal_comma_too(self, line: str) -> None:
        rows = [line.format(centre) for centre in TABLE["centre_nm"]]
        if "," in line:
            rows = [row.replace(".", ",") for row in rows]
        table = pd.read_csv(StringIO("\n".join([";".join(TABLE.columns), *rows])), sep=";")
        assert bands_from_table(table) == bands_from_table(TABLE.assign(centre_nm=TABLE["centre_nm"].round(1)))

    def test_centres_alone_are_enough_for_a_real_camera(self) -> None:
        assert all(not band.peaks for band in bands_from_table(TABLE[["centre_nm"]]))

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (TABLE.rename(columns={"centre_nm": "nm"}), "expected a column centre_nm, found"),
            (TABLE.assign(centre_nm=0.62), r"band 0: centre_nm 0.62 outside 400..1000 nm; is it in nanometres\?"),
            (TABLE.assign(fwhm_nm=0.012), "band 0: expected fwhm_nm 1..300, .*fwhm_nm=0.012"),
            (TABLE.assign(**SECOND | {"centre_nm2": 0.9}), "band 0: centre_nm2 0.9 outside 400..1000 nm"),
            (TABLE.assign(fwhm_nm="wide"), r"column fwhm_nm: expected numbers, found \['wide'"),
            (TABLE.assign(clip_max=-0.1), "band 0: clip_max must be positive, got -0.1"),
            (
                TABLE.iloc[::-1],
                r"not in the order of their index, \[15, 14, .*sort the rows by it; where the rows are right",
            ),
            (TABLE.assign(band=range(16, 0, -1)), r"not in the order of their band, \[16, 15"),
            (TABLE.assign(centre_nm=np.nan), "band 0: centre_nm None"),
            (TABLE.drop(columns="share"), "band 0: a peak needs share, too"),
            (TABLE.assign(quantum_efficiency=25), "quantum_efficiency and share above 0"),
            (TABLE.assign(**SECOND | {"share2": 0.3}), "shares of the peaks add up"),
        ],
    )
    def test_what_cannot_be_is_named(self, table: pd.DataFrame, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            bands_from_table(table)


class TestLimits:
    def test_they_are_percentiles_of_what_normalisation_leaves(self) -> None:
        sensor = HSI_DRIVE.resized((20, 20))
        cubes = [make_cube(np.random.default_rng(k).gamma(2.0, 1.0, (25, 20, 20)), sensor) for k in range(3)]
        found = fit_variant(variant("25-PN"), cubes, sensor, percentile=99, learn=True).high
        shares = np.concatenate([pn(cube).values.reshape(25, -1) for cube in cubes], axis=1)
        np.testing.assert_allclose(found, np.percentile(shares, 99, axis=1), rtol=1e-5)

    def test_published_limits_are_below_the_published_maxima(self) -> None:
        table = band_table()
        assert (table["pn_clip_max"] < table["pn_observed_max"]).all()

    def test_a_camera_without_limits_learns_them(self) -> None:
        sensor = chip()
        cube = make_cube(np.random.default_rng(0).random((16, 8, 16)), sensor)
        with pytest.raises(ValueError, match="must be fitted on training cubes"):
            fit_variant(variant("all-PN"), [], sensor)
        inputs = fit_variant(variant("all-PN"), [cube], sensor).apply(cube)
        assert inputs.shape == (16, 8, 16)
        assert float(inputs.max()) > 0.9


def taken_with(sensor: Sensor) -> Simulation:
    return Simulation(tiles=sensor.tiles, long_pass_nm=None, chip=sensor)


class TestScenes:
    def test_another_camera_goes_the_whole_way(self, tmp_path: Path) -> None:
        sensor = chip()
        write_dataset(tmp_path, ["nf3122_147"], taken_with(sensor), workers=1, progress=False)
        drive = open_dataset(tmp_path, sensor=sensor)
        assert drive.origin == "simulated"
        cube = drive.cube("nf3122_147")
        assert cube.shape == (16, 8, 16)
        np.testing.assert_array_equal(cube["wavelength"], sensor.wavelengths_nm)
        white, dark = (read_reference(tmp_path / "references" / f"{one}.bin", sensor) for one in ("white", "dark"))
        assert kind(remade(drive, "nf3122_147", partial(reflectance_cube, white=white, dark=dark))[1]) == "same"

    def test_an_interrupted_set_goes_on(self, tmp_path: Path) -> None:
        """Its settings, limits that are not measured among them, must be recognised as the same."""
        for names in (["nf3122_147"], ["nf3122_147", "nf1111_576"]):
            write_dataset(tmp_path, names, taken_with(chip()), workers=1, progress=False)
        with pytest.raises(ValueError, match="other settings"):
            write_dataset(
                tmp_path, ["nf3122_147"], taken_with(chip(TABLE.assign(fwhm_nm=20.0))), workers=1, progress=False
            )

    def test_a_camera_that_sees_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"toy 4x4: bands \[0, .* have no peak"):
            taken_with(chip(TABLE[["centre_nm"]]))
        with pytest.raises(ValueError, match=r"a camera of \(216, 409\) tiles"):
            Simulation(chip=chip())
