"""What a live page loads, as scripts; and the page without a runtime."""

import base64
import re
import zlib

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from tiny_book import write_book

from hsiutils.book import build, live
from hsiutils.paper.live import MIME

PARTS = {"network": (4, bytes(range(256)) * 3 + b"end"), "truth": (1, b"\x00\xff")}


def read(script):
    """As live.js does."""
    parts = {}
    calls = r'hsiLive\("(\w+)", (\d), (\d+), (\d+), "([^"]*)"\);\n'
    text = script.decode("utf-16")
    assert re.fullmatch(f"({calls})*", text)
    for name, width, length, size, letters in re.findall(calls, text):
        numbers = np.array([ord(letter) for letter in letters]) - live.FIRST
        assert ((numbers >= 0) & (numbers < 1 << 15)).all()
        bits = (numbers[:, None] >> np.arange(14, -1, -1)) & 1
        raw = zlib.decompress(np.packbits(bits.astype(np.uint8))[: int(size)].tobytes())
        parts[name] = int(width), np.frombuffer(raw, np.uint8).reshape(int(width), -1).T.tobytes()[: int(length)]
    return parts


def test_scripts_hold_every_byte():
    script = live.scripted(PARTS)
    assert script.startswith(b"\xff\xfe")  # says what it is, whatever a server says
    assert read(script) == PARTS
    noise = np.random.default_rng(0).bytes(30_000)
    assert len(live.scripted({"noise": (1, noise)})) < 1.08 * len(noise)


@pytest.fixture
def notebook(tmp_path):
    loaded = {name: [width, base64.b64encode(values).decode()] for name, (width, values) in PARTS.items()}
    data = {"text/html": '<div class="hsi-live">'}
    outputs = [new_output("display_data", data | {MIME: loaded}), new_output("stream", text="a word")]
    nbformat.write(new_notebook(cells=[new_code_cell("1", outputs=outputs)]), tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


def test_a_network_becomes_files_beside_the_page(notebook, tmp_path, monkeypatch):
    for name in live.RUNTIME:
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(live, "runtime", lambda: tmp_path)
    assert live.MIME == MIME
    assert live.is_live(notebook)
    live.take_out(notebook, tmp_path / "live")
    assert not live.is_live(notebook)
    text = nbformat.read(notebook, 4).cells[0].outputs[0].data["text/html"]
    files = re.search('data-files="([^"]+)"', text)[1].split(" ")
    assert sorted(files) == sorted(path.name for path in (tmp_path / "live").iterdir())
    engine, own, network = (tmp_path / "live" / name for name in files)
    assert engine.read_text() == live.RUNTIME[0]
    assert {name: part.decode() for name, (_, part) in read(own.read_bytes()).items()} == dict(
        zip(("glue", "wasm"), live.RUNTIME[1:], strict=True)
    )
    assert read(network.read_bytes()) == PARTS


def test_without_a_runtime_the_page_says_so(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(live.sys, "prefix", str(tmp_path))
    assert live.runtime() is None
    live.take_out(notebook, tmp_path / "live")
    assert nbformat.read(notebook, 4).cells[0].outputs[0].data == {"text/html": f"<p>{live.WITHOUT}</p>"}
    assert not (tmp_path / "live").exists()


@pytest.mark.parametrize("found", [True, False])
def test_a_site_depends_on_its_runtime_and_says_so_without(found, notebook, tmp_path, monkeypatch, capsys):
    for name in live.RUNTIME:
        (tmp_path / name).write_text(name)
    asked = {}
    monkeypatch.setattr(live, "runtime", lambda: tmp_path if found else None)
    monkeypatch.setattr(build.store, "artefact", lambda kind, make, inputs: asked.update(inputs))
    monkeypatch.setattr(build, "_mirror", lambda site, target: None)
    build.build_site({"book/a.ipynb": notebook}, write_book(tmp_path / "project"))
    assert bool(asked["runtime"]) == found
    assert (live.WITHOUT in capsys.readouterr().err) != found
