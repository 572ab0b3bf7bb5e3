"""Ask the paper's questions of real single spectra, and record the answers: see hsiutils.paper.spectra.

    python -m benchmarks.spectra --data FOLDER --out data/results/spectra.json

FOLDER holds the spectra of HSICityV2-Benchmark (classification/svm). Fifteen minutes on one core.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import sklearn

from hsiutils.data.atomic import write_atomically
from hsiutils.paper import designs, exposure
from hsiutils.paper.sensor import real_daylight
from hsiutils.paper.spectra import read_hsicity, real_answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of X_train_hsi.npy and y_train_hsi.npy")
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    given = parser.parse_args()
    spectra, wavelengths = read_hsicity(given.data)
    started = time.perf_counter()
    table = real_answers(spectra, wavelengths, given.seed)
    varied = exposure.taken_back(spectra)
    designed = designs.real_answers(spectra, wavelengths, real_daylight(wavelengths), given.seed)
    record = {
        "source": "HSICityV2-Benchmark (github.com/iori2333/HSICityV2-Benchmark, classification/svm)",
        "images": int(np.unique(spectra.scene).size),
        "spectra": len(spectra.truth),
        "bands": len(wavelengths),
        "seed": given.seed,
        "folds": "5, whole images",
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.perf_counter() - started),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "answers": table.round(2).to_dict("records"),
        "exposure": exposure.curve(varied, given.seed).round(3).to_dict("records"),
        "designs": designed.round(2).to_dict("records"),
    }
    write_atomically(given.out, json.dumps(record, indent=1) + "\n")
    print(table[table["class"] == "mean"].round(1).to_string(index=False))


if __name__ == "__main__":
    main()
