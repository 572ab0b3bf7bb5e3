"""Train the networks of a run: what fills their artefacts.

Nothing else is here, because a change of this module trains all networks anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hsiutils.data.inputs import fit_inputs
from hsiutils.data.source import Source
from hsiutils.models.segmenter import Recipe
from hsiutils.models.train import Job, JobsFailed, fit_many
from hsiutils.models.unet import UNetConfig


def train_networks(
    folders: Mapping[int, Path],
    networks: Sequence[tuple[str, int]],
    data: Source,
    config: UNetConfig,
    recipe: Recipe,
    workers: int,
    progress: bool,
) -> None:
    """Train some networks side by side, each in its folder.

    Parameters
    ----------
    folders : by index in `networks`, of those to train.
    networks : (variant, seed) pairs.
    config : of the networks; the channels are those of their input.
    recipe : of the training.
    workers : processes.
    progress : show a bar.

    Raises
    ------
    RuntimeError
        If some trainings fail, naming variant and seed; the others are kept.
    """
    fitted = {name: fit_inputs(name, data) for name in dict.fromkeys(networks[index][0] for index in folders)}
    jobs = []
    for index, folder in folders.items():
        name, seed = networks[index]
        own = fitted[name]
        train, val = (data.scenes(split, own, cache=True) for split in ("train", "val"))
        jobs.append(Job(train, val, replace(config, channels=own.channels), recipe, seed, folder, own))
    try:
        fit_many(jobs, workers, progress)
    except JobsFailed as failed:
        names = {folder: "variant {}, seed {}".format(*networks[index]) for index, folder in folders.items()}
        causes = "\n".join(f"  {names[folder]}: {error}" for folder, error in failed.errors.items())
        raise RuntimeError(f"{len(failed.errors)} of {len(jobs)} trainings failed:\n{causes}") from failed
