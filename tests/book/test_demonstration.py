from hsiutils.book.terminal import cut_short, write_demonstration
from hsiutils.data.check import check_dataset
from hsiutils.data.compare import Chain, kind, read_reference, remade
from hsiutils.data.hsidrive import open_hsi_drive


def test_it_is_a_sound_set_in_the_released_layout_with_references(tmp_path):
    drive = open_hsi_drive(write_demonstration(tmp_path, scenes=3, tiles=(8, 16)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["HSI-Drive", "dark.bin", "white.bin"]
    assert (drive.layout, drive.origin) == ("v2.0 MATLAB", "simulated")
    assert set(drive.scenes["split"]) == {"train", "val", "test"}
    assert (check_dataset(drive.root)["severity"] == "note").all()
    chain = Chain(*(read_reference(tmp_path / f"{one}.bin", drive.sensor) for one in ("white", "dark")))
    assert kind(remade(drive, drive.names()[0], chain)[1]) == "same"


def test_a_file_cut_short_is_found(tmp_path):
    drive = open_hsi_drive(write_demonstration(tmp_path, scenes=3, tiles=(8, 16)))
    path = drive.found.scenes[drive.names()[0]].cube
    cut_short(path, 1000)
    assert path.stat().st_size == 1000
    assert check_dataset(drive.root)["severity"].tolist().count("error") == 1
