"""The page in which the network itself runs: what it loads when asked, made into files that a page on a disk may load.

A page that was opened as a file may ask for scripts, and for nothing else: no data, no modules. So everything is a
script, in UTF-16, whose letters carry 15 bits each; a byte order mark says so whatever a server claims. The runtime
(onnxruntime-web) comes into the environment by `make setup`.
"""

import base64
import hashlib
import sys
import zlib
from pathlib import Path

import nbformat
import numpy as np

MIME = "application/vnd.hsiutils.live+json"
"""As in `hsiutils.paper.live`, with which no site is to change."""
RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of onnxruntime-web: what is called, what it loads, and the compiled runtime."""
WITHOUT = (
    "The network does not run in this page: onnxruntime-web could not be had when the environment was set up. Where "
    "npm or uv can reach a registry, `make setup` and `make book` bring it."
)
FIRST = 0x100
"""Letter for 15 bits that are zero; the last one is 0x80FF, below those that stand in pairs."""


def runtime() -> Path | None:
    """Folder of the runtime in this environment; None where the set-up could not get it."""
    folder = Path(sys.prefix) / "runtime"
    return folder if all((folder / name).is_file() for name in RUNTIME) else None


def is_live(notebook: Path) -> bool:
    """Whether a run notebook has a network in it."""
    return MIME in notebook.read_text()


def take_out(notebook: Path, static: Path) -> None:
    """Move a network out of a run notebook into files of a folder, with the runtime; its page is told their names.

    Without a runtime the page says so in its place.
    """
    content, found = nbformat.read(notebook, as_version=4), runtime()
    for output in (output for cell in content.cells for output in cell.get("outputs", [])):
        if MIME not in output.get("data", {}):
            continue
        loaded = output.data.pop(MIME)
        if found is None:
            output.data = {"text/html": f"<p>{WITHOUT}</p>"}
            continue
        static.mkdir(parents=True, exist_ok=True)
        parts = {name: (width, base64.b64decode(text)) for name, (width, text) in loaded.items()}
        files = zip(("glue", "wasm"), RUNTIME[1:], strict=True)
        engine = {name: (1, (found / file).read_bytes()) for name, file in files}
        names = [RUNTIME[0]]
        (static / RUNTIME[0]).write_bytes((found / RUNTIME[0]).read_bytes())
        for kind, held in (("runtime", engine), ("network", parts)):
            script = scripted(held)
            names.append(f"{kind}-{hashlib.sha256(script).hexdigest()[:8]}.js")
            (static / names[-1]).write_bytes(script)
        size = sum((static / name).stat().st_size for name in names) / 1e6
        told = f'hsi-live" data-files="{" ".join(names)}" data-megabytes="{size:.1f}"'
        output.data["text/html"] = output.data["text/html"].replace('hsi-live"', told)
    nbformat.write(content, notebook)


def scripted(parts: dict[str, tuple[int, bytes]]) -> bytes:
    """A script that gives `hsiLive` every part: its name, the width of its numbers, its length, and itself.

    Byte after byte of all numbers of a part, deflated, 15 bits a letter.
    """
    calls = []
    for name, (width, values) in parts.items():
        padded = np.frombuffer(values + bytes(-len(values) % width), np.uint8).reshape(-1, width)
        bits = np.unpackbits(np.frombuffer(zlib.compress(padded.T.tobytes(), 9), np.uint8))
        groups = np.pad(np.pad(bits, (0, -len(bits) % 15)).reshape(-1, 15), ((0, 0), (1, 0)))
        letters = np.packbits(groups).view(">u2") + FIRST
        text = letters.astype("<u2").tobytes().decode("utf-16-le")
        calls.append(f'hsiLive("{name}", {width}, {len(values)}, {len(bits) // 8}, "{text}");\n')
    return "".join(["\ufeff", *calls]).encode("utf-16-le")
