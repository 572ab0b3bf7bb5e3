import holoviews as hv
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
    after, skips, boxes, words = u_net(blocks)
    left, _, right, _ = boxes.array().T.astype(float)
    assert (right - left).argmax() == 2  # the most channels
    assert [(row[1], row[3]) for row in skips.array()] == [(-1, -1), (0, 0)]
    assert [(round(row[0]), round(row[2])) for row in skips.array()] == [(1, 3), (0, 4)]
    assert len(after) == 5
    assert words.dimension_values("words")[2] == "4, 5\n32"
    assert hv.renderer("bokeh").get_plot(u_net(blocks)).state.sizing_mode == "stretch_width"
