import json

import pytest

from hsiutils.models.unet import flops
from hsiutils.paper.cost import every_record, paper_cost
from hsiutils.paper.results import RESULTS
from hsiutils.paper.run import profile
from hsiutils.paper.studies import studies
from hsiutils.paper.trainings import GPU_RECORD, gpu_costs

PAPER = profile("paper")
ONE = flops(PAPER.network("abcde"), PAPER.tiles)


@pytest.fixture
def records(tmp_path):
    machine = {"machine": {"processor": "a processor"}, "date": "2026-01-02"}
    full = {"network": {}, "decomposition": {"forward_s": 0.5, "date": "2026-01-02"}, **machine}
    step = {"gflop_an_image": {"ours": 2 * ONE / 1e9}, **machine}
    step["rounds"] = {"this tree, float32, steps alone": [1.0, 2.0, 5.0]}  # a pass a second
    for name, content in (("full_size", full), ("step", step)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return {name: tmp_path / f"{name}.json" for name in ("full_size", "step", "gpu", "reading")}


def test_costs_by_hand(records):
    table, words = paper_cost([10, 100], ONE / 1e12, **records)
    passes = 200 * (3 * 6 + 2)  # of 6 training scenes and 2 of validation
    own = table["10 scenes"]
    assert own["cubes on disk (GB)"] == pytest.approx(10 * 25 * 216 * 409 * 4 / 1e9)
    assert own["a network: 1e15 operations"] == pytest.approx(passes * ONE / 1e15)
    assert own["a network: days by the pass"] == pytest.approx(passes * 0.5 / 86400)
    assert own["a network: days by training"] == pytest.approx(passes / 86400)
    assert own["12 networks: GPU hours"] == pytest.approx(12 * passes / 3600)
    assert (table["100 scenes"] / own).dropna().to_numpy() == pytest.approx(10)
    assert (table.loc["12 networks: of these, checkpoints"] == 0).all()
    assert "0.50 s (a processor, 2026-01-02)" in words[0]
    assert "No GPU was measured: its rows assume" in words[-1]  # and nothing of reading


def test_a_measured_gpu_takes_the_place_of_the_assumption(records):
    recipe = {"epochs": 10, "validate_every": 10}
    found = {"recipe": recipe, "scenes": {"train": 6, "val": 20}, "filters": 32, "image": [216, 409], "date": "today"}
    found["feeding"] = {"images": 6, "epoch_s": [1.0, 18.0, 100.0], "checkpoint_s": 7.0}  # a pass a second
    found["networks"] = [{"training_s": seconds} for seconds in (270.0, 280.0)]
    records["gpu"].write_text(json.dumps(found | {"device": "a GPU", "precision": "16-mixed"}))
    table, words = paper_cost([10, 100], 1, **records)
    hours, checkpoints = table.loc["12 networks: GPU hours"], table.loc["12 networks: of these, checkpoints"]
    assert checkpoints.to_numpy() == pytest.approx(12 * 200 * 7 / 3600), "one an epoch, however many scenes"
    assert (hours - checkpoints).to_numpy() == pytest.approx([12 * 200 * 20 / 3600, 12 * 200 * 200 / 3600])
    assert "a GPU, 16-mixed, today. A step takes 3000.0 ms an image" in words[-1]
    assert "270 s each; they took 270 to 280 s" in words[-1]  # ten epochs of 18 and 7, and 20 passes


@pytest.mark.parametrize(("teraflops", "waits"), [(ONE / 1e12, False), (1000 * ONE / 1e12, True)])
def test_whether_a_gpu_waits_for_reading_is_said(records, teraflops, waits):
    rates = {"mat": 1000.0, "network's input, 25-PN": 100.0}
    records["reading"].write_text(json.dumps({"cube_mb": 10.0, "mb_s": rates}))
    words = paper_cost([10], teraflops, **records)[1][-1]
    assert words.startswith("One process reads an image and makes it the network's input in 110 ms; that GPU takes 3")
    assert ("would wait" in words) == waits


def test_the_committed_records_give_finite_costs():
    table, words = paper_cost([752, 10_000], 20)
    a_step = f"{1e3 / json.loads(GPU_RECORD.read_text())['feeding']['images_s']:.1f} ms an image"
    assert any(a_step in one for one in words), "the figure of chapter 9's list"
    assert any(a_step in one for one in gpu_costs())
    assert (table > 0).to_numpy().all()
    by_pass, by_training = (table.filter(like=words, axis=0).iloc[0, 0] for words in ("by the pass", "by training"))
    assert 0.5 < by_pass / by_training < 2, "two ways to one figure"


@pytest.mark.parametrize(("scenes", "teraflops"), [([], 1), ([0], 1), ([1], 0), ([1], float("nan"))])
def test_nothing_else_is_taken(scenes, teraflops):
    with pytest.raises(ValueError, match="must be positive"):
        paper_cost(scenes, teraflops)


def test_every_record_says_what_makes_it_and_when():
    table = every_record().set_index("record")
    assert set(table.index) == {path.name for path in RESULTS.glob("*.json")}
    assert table.loc["leaderboard.json", "makes"] == "hsiutils study leaderboard"
    assert table.loc["peers.json", "machine"] == "1 thread of AMD EPYC"
    assert set(table["makes"]) >= {f"hsiutils study {name}" for name in studies() if (RESULTS / f"{name}.nc").is_file()}
    scripts = {path.stem for path in (RESULTS.parents[1] / "benchmarks").glob("*.py")}
    assert {words.rpartition("benchmarks.")[2] for words in table["makes"] if "benchmarks" in words} <= scripts
