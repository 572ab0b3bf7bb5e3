"""The pages of the book, and a Sphinx extension for them: nothing that a page needs comes from the network.

MathJax is reduced to the one bundle and the fonts that the pages use; BokehJS goes only onto pages with charts, and
what runs a network only onto the page that has one.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hsiutils.book import apparatus, live

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_BOKEH = "bokeh.min.js"
_ICON = re.compile(r"""("[a-z0-9-]+"|[a-z][a-z0-9]*):\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?""")
"""One of Font Awesome's: its name, and [width, height, [other names], code, path or paths]."""
_MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


_JUPYTER_BOOK = (
    "import sys; from hsiutils.book.processes import end_with; end_with(int(sys.argv.pop(1))); "
    "from jupyter_book.cli.main import main; main()"
)
"""Left alone by a build that was killed, it would write on into the folder of the next."""


class SiteError(RuntimeError):
    """The pages could not be built."""


def build_pages(folder: Path, pages: Mapping[str, Path], feet: Mapping[str, str], strict: bool = True) -> None:
    """Build the site into html/ of a folder.

    Of `pages`, everything that it is made of, by its place in the source tree, with HTML for the feet of those that are
    run notebooks. A SiteError has jupyter-book's warnings and last lines, if it fails or, unless not `strict`, warns.
    """
    # These take a second to import, and only a site that changed needs them.
    from jupyter_book import __version__ as jupyter_book
    from sphinx import __version__ as sphinx

    # Built from a copy: jupyter-book would otherwise execute, scan and write beside the committed notebooks.
    source = folder / "source"
    for name, path in pages.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, source / name)
    for name, foot in feet.items():
        apparatus.annotate(source / name, foot)
        if live.is_live(source / name):
            live.take_out(source / name, source / "book" / "_static" / "live")
    # The chapters were run already; "auto", meant for a plain `jupyter-book build .`, would run them once more.
    settings = yaml.safe_load((source / "_config.yml").read_text())
    settings.setdefault("execute", {})["execute_notebooks"] = "off"
    (source / "_config.yml").write_text(yaml.safe_dump(settings))
    program = [sys.executable, "-c", _JUPYTER_BOOK, str(os.getpid())]  # of this environment, whatever PATH says
    command = [*program, "build", str(source), "--path-output", str(folder), "--all", *(["-W"] * strict)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own command)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        told = [line for line in lines[:-20] if re.search("warning: |error: ", line, re.IGNORECASE)] + lines[-20:]
        said = "\n".join(told)
        raise SiteError(f"jupyter-book {jupyter_book} with Sphinx {sphinx} could not build the pages:\n{said}")
    (folder / "_build" / "html").replace(folder / "html")
    shutil.rmtree(folder / "_build")
    shutil.rmtree(source)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Connect to Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("builder-inited", _copy_scripts)
    app.connect("html-page-context", _on_page)
    app.connect("build-finished", _keep_icons)
    apparatus.connect(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _copy_scripts(app: "Sphinx") -> None:
    import bokeh

    static = Path(app.outdir) / "_static"
    bokeh_js = Path(bokeh.__file__).parent / "server" / "static" / "js"
    _copy(bokeh_js / _BOKEH, static / "bokeh" / _BOKEH)
    for name in _MATHJAX:
        _copy(_mathjax() / name, static / "mathjax" / name)


def _mathjax() -> Path:
    # The package's folder has a hyphen in its name, so it cannot be imported by a statement.
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("sphinx-mathjax-offline is not installed: run `make setup`")
    return Path(spec.origin).parent / "static" / "mathjax"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _on_page(app: "Sphinx", pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    # sphinx-thebe names its network address on every page, though no page offers live code.
    # (In place: add_js_file below appends to this very list.)
    context["script_files"][:] = [file for file in context["script_files"] if "thebe" not in _text(file)]
    if "body" in context:  # what folds code is called by what it says; entries of a bibliography are no list items
        for label in (' aria-label="Toggle hidden content"', ' role="list"'):
            context["body"] = context["body"].replace(label, "")
    if "Bokeh" in context.get("body", ""):
        app.add_js_file(f"bokeh/{_BOKEH}")
    if "hsi-live" in context.get("body", ""):
        app.add_js_file("live.js")
        app.add_css_file("live.css")


def _keep_icons(app: "Sphinx", error: Exception | None) -> None:
    """Leave in the theme's script of 2,000 icons those that pages or scripts name: it would be half of all scripts."""
    static = Path(app.outdir) / "_static"
    icons = static / "scripts" / "fontawesome.js"
    if error or not icons.is_file():
        return
    texts = [*Path(app.outdir).rglob("*.html"), *static.glob("*.js"), *static.glob("scripts/*-theme.js")]
    named = {name for text in texts for name in re.findall(r"fa-([a-z0-9-]+)", text.read_text())}

    def kept(icon: re.Match[str]) -> str:
        return icon[0] if named & set(re.findall(r"[a-z][a-z0-9-]*", f"{icon[1]},{icon[2]}")) else ""

    icons.write_text(_ICON.sub(kept, icons.read_text()))


def _text(script: Any) -> str:
    attributes = getattr(script, "attributes", {})
    return f"{getattr(script, 'filename', script)} {attributes.get('body', '')}"
