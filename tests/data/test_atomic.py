import pytest

from hsiutils.data.atomic import replacing, write_atomically


def test_text_and_bytes_appear_under_their_name_alone(tmp_path):
    write_atomically(tmp_path / "new" / "a.txt", "größer")
    write_atomically(tmp_path / "new" / "b.bin", b"\0\1")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "größer".encode()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.txt", "b.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with replacing(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise error("in the middle")

    with pytest.raises(error):
        write()
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("a.txt", "old")]
