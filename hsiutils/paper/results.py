"""Committed results: Datasets in a netCDF file, with a manifest beside it that says how they were made and seals it."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from hsiutils.data import guard
from hsiutils.data.atomic import replacing, write_atomically
from hsiutils.models.recipe import precision
from hsiutils.paper import store

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

RESULTS = store.PACKAGE.parent / "data" / "results"


def provenance(run: "Run") -> dict[str, Any]:
    """What a record says of the run that it is made with: sizes, scenes, date, code, machine, versions."""
    return {
        "profile": asdict(run.profile),
        "variants": run.variants,
        "seeds": run.seeds,
        "origin": run.data.origin,
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": {
            "processor": torch.cpu.get_capabilities().get("cpu_name", platform.machine()),
            "cores": os.cpu_count(),
            "precision": precision(run.profile.recipe.precision),
        },
        "versions": store.versions(("torch", "numpy", "xarray", "scipy", "scikit-learn")),
        "scenes": {"key": run.data_key} | {split: len(run.data.names(split)) for split in ("train", "val", "test")},
    }


def write(found: Mapping[str, xr.Dataset], manifest: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Write Datasets as groups of a netCDF file, at once, and beside it the manifest, NAME.json, which seals it."""
    with replacing(file) as path:
        for kind, one in found.items():
            _write(one, path, kind)
        sealed = {**manifest, "sha256": store.file_hash(path)}
    write_atomically(file.with_suffix(".json"), json.dumps(sealed, indent=1) + "\n")
    return sealed


def read_manifest(file: Path) -> dict[str, Any]:
    """The manifest of what `write` wrote; a ValueError or OSError if one of the two is not there, or not as written."""
    manifest = guard.read_json(path := file.with_suffix(".json"))
    if not isinstance(manifest, dict) or "sha256" not in manifest:
        raise ValueError(f"{path}: expected the fields of a manifest, with sha256 among them")
    if (seal := store.file_hash(file)) != manifest["sha256"]:
        raise ValueError(f"{file} is not the one of the manifest: SHA-256 {seal}")
    return manifest


def _write(found: xr.Dataset, path: Path, kind: str) -> None:
    plain = found.drop_encoding()
    packed = {
        name: {"zlib": True, "complevel": 9} for name, one in plain.items() if one.dtype.kind in "iuf" and one.ndim
    }
    plain.to_netcdf(path, mode="a" if path.exists() else "w", group=kind, engine="h5netcdf", encoding=packed)


def _commit() -> str:
    """Of the checkout, with "-dirty" where files differ from it; empty where there is none."""
    command = ["git", "-C", str(store.PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""


def in_words(manifest: Mapping[str, Any]) -> str:
    """How what a manifest tells of was made, by a run of which sizes, when and where."""
    machine = manifest["machine"]
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    return f"{sizes(manifest)}; {manifest['date']}, {cores} of {machine['processor']}"


def sizes(made: Mapping[str, Any]) -> str:
    """Profile, seed, scenes, networks and epochs, in words."""
    profile, networks = made["profile"], len(made["seeds"])
    return (
        f"profile {profile['name']}, seed {made['seeds'][0]}, {made['origin']} scenes, {networks} "
        f"network{'s' * (networks > 1)} for each input, {profile['recipe']['epochs']} epochs"
    )
