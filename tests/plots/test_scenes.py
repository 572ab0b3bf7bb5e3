import numpy as np

from hsiutils.plots import scenes as scene_plots
from hsiutils.plots.base import start


def test_scenes_are_shown_with_what_is_known(tiny_run):
    start()
    drive = tiny_run.data
    name = drive.names("test")[0]
    panels = scene_plots.scene_panels(drive, name)
    assert list(panels) == ["simulated, pseudo-colour", "labels", "after PN", "sunlit share"]
    assert all(panel.shape == (16, 32, 3) and panel.dtype == np.uint8 for panel in panels.values())
    maps = {"3": {name: np.zeros((16, 32), dtype=np.uint8)}}
    assert len(scene_plots.prediction_pages(drive, maps, [name])) == 1
    assert next(iter(scene_plots.scene_pages(drive, [name]).keys())).startswith(f"{name} (")
