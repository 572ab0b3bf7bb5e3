import holoviews as hv
import numpy as np
import pandas as pd

from hsiutils.plots.network import u_net


def test_blocks_stand_at_their_level_and_skips_join_the_two_of_a_level():
    blocks = pd.DataFrame(
        {
            "level": [0, 1, 2, 1, 0, 0],
            "channels": [8, 16, 32, 16, 8, 3],
            "name": ["0, 1", "2, 3", "4, 5", "6", "7", "8"],
        }
    )
    after, skips, boxes, *words = u_net(blocks)
    left, _, right, _ = boxes.array().T.astype(float)
    assert (right - left).argmax() == 2  # the most channels
    assert [(row[1], row[3]) for row in skips.array()] == [(-1, -1), (0, 0)]
    assert [(round(row[0]), round(row[2])) for row in skips.array()] == [(1, 3), (0, 4)]
    assert len(after) == 5
    assert {word for part in words for word in part.dimension_values("words")} >= {"0, 1\n8", "4, 5\n32", "6\n16"}
    assert sum(map(len, words)) == 6
    lines = np.concatenate([after.array(), skips.array()]).astype(float)
    runs = np.linspace(lines[:, :2], lines[:, 2:], 99).reshape(-1, 2)
    for part in words:  # of 0.6 x 0.4 at least
        look = part.opts.get().kwargs
        left = {"left": 0, "center": -0.3, "right": -0.6}[look["text_align"]]
        low = {"bottom": 0, "top": -0.4}[look["text_baseline"]]
        for corner in part.array()[:, :2].astype(float) + np.array([left, low]):
            assert not ((runs > corner) & (runs < corner + np.array([0.6, 0.4]))).all(1).any()
    assert hv.renderer("bokeh").get_plot(u_net(blocks)).state.sizing_mode == "stretch_width"
