import json

from strangers import DeepLab, SmpUNet

from benchmarks.strangers import CLASSES, main


def test_every_network_closes_in_both_precisions_and_tells_its_cost(tmp_path):
    builders = {"DeepLab": lambda: DeepLab(classes=CLASSES), "U-Net": lambda: SmpUNet(classes=CLASSES)}
    arguments = ["--size", "12", "16", "--pixels", "2", "--repeats", "1"]
    main(["--out", str(tmp_path / "strangers.json"), *arguments], builders)
    record = json.loads((tmp_path / "strangers.json").read_text())
    assert list(record["networks"]) == list(builders)
    for network in record["networks"].values():
        for precision, limit in {"float32": 1e-4, "float64": 1e-10}.items():
            found = network[precision]
            assert found["largest_relative_residual"] < limit
            assert found["gradcam_audit_and_single_maps_differ_by"] < limit
            assert found["forwards_a_tangent"] > 0
