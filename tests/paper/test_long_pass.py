from hsiutils.paper.long_pass import long_pass_evidence


def test_the_filter_brings_the_mean_spectrum_nearer_to_the_released_one(tiny_run):
    evidence = long_pass_evidence(tiny_run, scenes=6).set_index("filter")["correlation"]
    assert evidence["long-pass at 600 nm"] > evidence["none"]
    assert evidence.between(-1, 1).all()
