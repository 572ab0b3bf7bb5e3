import json
from dataclasses import replace

from benchmarks.lens import main
from hsiutils.paper.run import profile
from hsiutils.paper.trainings import lens_table

TINY = replace(profile("smoke"), name="tiny", scenes=5, tiles=(16, 32), depth=2)


def test_every_lens_and_input_gets_a_row_of_the_chapter(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.lens.profile", lambda name: TINY)
    # Here, and not in processes that start more slowly than they train: tests/paper/test_cluster.py has those.
    monkeypatch.setattr("benchmarks.lens.workers", lambda: 1)
    monkeypatch.setattr(
        "benchmarks.lens.side_by_side", lambda calls, *_, **__: {name: call() for name, call in calls.items()}
    )
    out = tmp_path / "lens.json"
    main(["--out", str(out), "--work", str(tmp_path / "work"), "--blur", "0.5", "1.5", "--variants", "3"])
    found = json.loads(out.read_text())["networks"]
    assert [(one["blur_px"], one["variant"]) for one in found] == [(0.5, "3"), (1.5, "3")]
    table, words = lens_table(out)
    assert list(table["mean"]) == [100 * one["mean_iou"] for one in found]
    assert "profile tiny" in words


def test_without_a_record_words_say_what_makes_it(tmp_path):
    table, words = lens_table(tmp_path / "none.json")
    assert table.empty
    assert "python -m benchmarks.lens" in words
