#!/usr/bin/env bash
# Write requirements.lock anew from pyproject.toml and all its extras (needs uv), and its versions into environment.yml.
# What is locked stays at its version; `tools/lock.sh --upgrade` takes the newest. The CUDA packages are left to torch,
# which pins them itself: a machine without a GPU then never asks for them, and one with a GPU gets the ones its torch
# was built with.
set -euo pipefail
cd "$(dirname "$0")/.."
cuda=(cuda-bindings cuda-pathfinder cuda-toolkit triton nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc
    nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse
    nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx)
env -u UV_TORCH_BACKEND uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --quiet --no-header --no-annotate \
    --output-file requirements.lock "${cuda[@]/#/--no-emit-package=}" "$@"
python3 - <<'END'
import re
from pathlib import Path

locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", Path("requirements.lock").read_text(), re.MULTILINE))
path = Path("environment.yml")
path.write_text(re.sub(r"- ([\w.-]+)==\S+", lambda found: f"- {found[1]}=={locked[found[1]]}", path.read_text()))
END
