import numpy as np

from hsiutils.plots import scenes as scene_plots


def test_scenes_are_shown_with_what_is_known(tiny_run):
    data = tiny_run.data
    name = data.names("test")[0]
    panels = scene_plots.scene_panels(data, name)
    assert list(panels) == ["simulated, pseudo-colour", "labels", "after PN", "sunlit share"]
    assert all(panel.shape == (16, 32, 3) and panel.dtype == np.uint8 for panel in panels.values())
    maps = {"3": {name: np.zeros((16, 32), dtype=np.uint8)}}
    assert len(scene_plots.prediction_pages(data, maps, [name]).frames) == 1
    assert next(iter(scene_plots.scene_pages(data, [name]).frames))[0].startswith(f"{name} (")
