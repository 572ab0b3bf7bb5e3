"""How much Table 1 depends on the lens: scenes behind three lenses, and networks trained and tested behind each.

The same scenes of profile quick are rendered with a point spread of other widths, and networks are trained with the
recipe of the profile, one seed an input. From the root of the repository, about ten minutes a lens on two cores:

    python -m benchmarks.lens --out data/results/lens.json
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

import hsiutils as hu
from hsiutils.data.atomic import write_atomically
from hsiutils.models.recipe import precision
from hsiutils.models.train import train_network
from hsiutils.paper.cluster import side_by_side
from hsiutils.paper.run import profile, workers


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "hsiutils-lens"), help="for the rest")
    parser.add_argument("--blur", type=float, nargs="+", default=[0.5, 1.0, 1.5], help="sigma in pixels of the sensor")
    parser.add_argument("--variants", nargs="+", default=["25", "25-PN"])
    parser.add_argument("--profile", default="quick")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = options(arguments)
    own, found = profile(given.profile), []
    for blur in given.blur:
        root = given.work / f"{own.name}-{blur:g}"
        data = hu.simulate_dataset(
            root / "scenes", own.scenes, tiles=own.tiles, workers=workers(), progress=False, blur_px=blur
        )
        config = own.network(data.classes.names)
        networks = [(name, 0) for name in given.variants]
        train = partial(train_network, data=data, config=config, recipe=own.recipe)
        calls = {name: partial(train, root / name, name, seed) for name, seed in networks}
        side_by_side(calls, "networks", workers(), progress=False)
        for name, seed in networks:
            test = data.scenes("test", hu.fit_inputs(name, data))
            merits = hu.scores(hu.evaluate(hu.load_model(root / name), test).sel(region="all"))
            iou = {str(one): float(merits["iou"].sel({"class": one})) for one in merits["class"].values}
            found.append(
                {"blur_px": blur, "variant": name, "seed": seed, "mean_iou": float(merits["mean_iou"]), "iou": iou}
            )
            print(json.dumps(found[-1]), flush=True)
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "profile": own.name,
        "epochs": own.recipe.epochs,
        "precision": precision(own.recipe.precision),
        "versions": {"torch": torch.__version__},
        "networks": found,
    }
    write_atomically(given.out, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
