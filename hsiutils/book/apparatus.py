"""What a printed book has around its text: numbers, provenance, and links to its repository.

Chapters have the numbers of the table of contents, appendices A1, A2, ..., the first page 0. Figures, equations and
tables go by them (Fig. 4.1), so that none has the number of one of the paper's.
"""

import html
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.v4 import new_markdown_cell

from hsiutils.book import number_of
from hsiutils.paper import store

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


_BUTTONS = ("use_issues_button", "use_repository_button", "use_edit_page_button")
_SERVICES = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
_CAPTION = re.compile(
    r'(<table(?:[^>]*? data-name="([^"]*)")?[^>]*>\s*)<caption>(?:<span class="caption-number">Table [^<]*</span>)?'
)
"""Of a table, which may have a name; Sphinx has counted those that are written in Markdown by themselves."""
_FOLD = re.compile(
    r'(<p class="collapsed admonition-title">)[^<]*'
    r'(</p>\s*<p class="expanded admonition-title">)[^<]*(</p>.*?</details>)',
    re.DOTALL,
)
"""What myst-nb folds: the words to unfold and to fold it, and what is in it."""
_SAID = re.compile(
    r'<caption[^>]*><span class="caption-number">(Table [^<]*) </span>(.*?)(?:[.,:]\s| \(|\.?</)', re.DOTALL
)
"""Of a numbered caption: its number, and its first words."""
_END = "</details>"
_WORDS_A_MINUTE, _SECONDS_A_PICTURE = 200, 20


def provenance(chapter: Path, commit: str = "", parameters: Mapping[str, Any] | None = None) -> str:
    """Where a run chapter comes from and how to repeat it, as HTML for the foot of its page.

    Parameters
    ----------
    chapter : run notebook; in an artefact of the store, its manifest has parameters, time, keys and versions.
    commit : of the code, as `checked_out` names it; empty for none.
    parameters : that it was given; None for those of its manifest.
    """
    made = store.load(chapter.parent)
    manifest: Mapping[str, Any] = made.manifest if made else {"inputs": {"parameters": {}}, "environment": {}}
    given = dict(manifest["inputs"]["parameters"] if parameters is None else parameters)
    data = "real scenes" if given.get("data_root") else "simulated scenes"
    facts = [data, *(f"{name} {given[name]}" for name in ("profile", "seed") if name in given)]
    on, took = manifest.get("made", "")[:10], manifest.get("seconds", 0)
    known = {
        "run on": on and f"{on} in {took:.0f} s",
        "hsiutils": version("hsiutils") if made else "",
        "commit": commit,
    }
    facts += [f"{name} {value}" for name, value in known.items() if value]
    keys = {"this page": made.key if made else "", "scenes": manifest["inputs"].get("data", "")}
    parts = {
        "Artefacts": ", ".join(f"{what} {key}" for what, key in keys.items() if key),
        "Versions": ", ".join(f"{name} {version}" for name, version in manifest["environment"].items()),
    }
    folded = f"<pre>{html.escape(repeat_command(chapter, given))}</pre>"
    folded += "".join(f"<p>{name}: {html.escape(words)}</p>" for name, words in parts.items() if words)
    return (
        f'<footer class="hsi-provenance" id="provenance"><p>{html.escape(", ".join(facts).capitalize())}</p>'
        f"<details><summary>Run this page again</summary>{folded}</details></footer>"
    )


def repeat_command(chapter: Path, parameters: Mapping[str, Any]) -> str:
    """The command that runs a chapter again with these parameters."""
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}={_written(value)}")]
    return shlex.join(["hsiutils", "chapter", number_of(chapter), *given])


def _written(value: Any) -> str:
    """A value as `hsiutils.book.parameters.sweep` reads it: text with signs of its own in quotes."""
    if isinstance(value, list) or (isinstance(value, str) and re.search(r"[^\w ./@+-]|^ | $", value)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def checked_out(root: Path) -> str:
    """The commit that is checked out in a folder, in short, and whether files were changed since; "" without git."""
    git = shutil.which("git")
    asked = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    if git is None or not (root / ".git").exists():
        return ""
    done = [subprocess.run([git, *words], cwd=root, capture_output=True, text=True, check=False) for words in asked]  # noqa: S603
    commit, changes = (one.stdout.strip() for one in done)
    return f"{commit} with changes" if commit and changes else commit


def annotate(notebook: Path, foot: str) -> None:
    """Write into a run notebook where it comes from, at its foot; into a numbered one how long it takes to read.

    Code that follows its parameters and shows nothing, its imports, is folded with them.
    """
    content = nbformat.read(notebook, as_version=4)
    words = sum(len(cell.source.split()) for cell in content.cells if cell.cell_type == "markdown")
    shown = [cell for cell in content.cells if "remove-output" not in cell.metadata.get("tags", [])]
    pictures = sum(any("data" in output for output in cell.get("outputs", [])) for cell in shown)
    minutes = max(1, round(words / _WORDS_A_MINUTE + pictures * _SECONDS_A_PICTURE / 60))
    if re.match(r"a?\d+_", notebook.name):
        title, line, rest = content.cells[0].source.partition("\n")
        reading = f'<p class="hsi-reading">{minutes} minute{"s" * (minutes > 1)} to read</p>'
        content.cells[0].source = f"{title}\n\n{reading}\n{line}{rest}"
    cells = content.cells
    start = next((place for place, cell in enumerate(cells, 1) if cell.id == "parameters"), len(cells))
    silent = list(takewhile(_shows_nothing, cells[start:]))
    if any("hide-input" in cell.metadata.tags for cell in silent):
        fold = cells[start - 1]
        fold.source = fold.source.removesuffix(_END).replace("Parameters:", "Parameters (and imports):", 1)
        for cell in silent:  # open in the fold
            cell.metadata["tags"] = [tag for tag in cell.metadata.get("tags", []) if tag != "hide-input"]
        cells.insert(start + len(silent), new_markdown_cell(_END))
    cells.append(new_markdown_cell(foot))
    nbformat.write(content, notebook)


def _shows_nothing(cell: nbformat.NotebookNode) -> bool:
    tags = cell.metadata.get("tags", [])
    folded = "hide-input" in tags and ("remove-output" in tags or not cell.get("outputs"))
    return cell.cell_type == "code" and ("remove-cell" in tags or folded)


def connect(app: "Sphinx") -> None:
    """Connect to Sphinx."""
    collector: Any = import_module("sphinx_external_toc.collectors").TocTreeCollectorWithStyles
    assign = collector.assign_section_numbers

    def assign_section_numbers(self: Any, env: "BuildEnvironment") -> list[str]:
        changed: list[str] = assign(self, env)
        env.toc_secnumbers[env.config.root_doc] = {"": (0,)}
        return changed

    collector.assign_section_numbers = assign_section_numbers
    collector._TocTreeCollectorWithStyles__to_alpha = lambda self, number: f"a{number}"  # else A, B, ...
    app.connect("env-check-consistency", _unnumber_first)  # after figures got their numbers
    app.setup_extension("sphinx.ext.napoleon")  # and autodoc
    app.connect("autodoc-process-docstring", _as_napoleon_reads, priority=400)
    app.connect("config-inited", _choose_buttons)
    app.connect("html-page-context", _number_tables)
    app.connect("html-page-context", _explain_terms)


def _unnumber_first(app: "Sphinx", env: "BuildEnvironment") -> None:
    """Headings of the first page have no number, only its figures and equations."""
    env.toc_secnumbers.pop(env.config.root_doc, None)


def _choose_buttons(app: "Sphinx", config: Any) -> None:
    """Offer to edit, to ask and to launch where the configuration names a repository, and nothing without one.

    The sidebar has a search field, so the theme's header, which would have another, stays empty.
    """
    options = config.html_theme_options
    options["navbar_persistent"] = []
    if options.get("repository_url"):
        options |= dict.fromkeys(_BUTTONS, True)
        options["launch_buttons"] = {"notebook_interface": "jupyterlab"} | _SERVICES


def _number_tables(app: "Sphinx", pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Number the captions of tables, most of which cells made and Sphinx does not read, and what leads to them.

    A table that is shown with a name is referred to as `<a href="#table-NAME">the table</a>`. A page without a number
    gives its tables its initial. Where tables are folded, they are named.
    """
    from sphinx.util.logging import getLogger  # whose warnings fail a strict build

    if "body" not in context:
        return
    pages = app.env.toc_secnumbers | {app.config.root_doc: {"": (0,)}}
    chapter = pages.get(pagename, {}).get("", [pagename.rpartition("/")[2][0].upper()])[0]
    numbers, known = (f"{chapter}.{index}" for index in count(1)), {}

    def numbered(caption: re.Match[str]) -> str:
        number = next(numbers)
        known[caption[2]] = number
        return f'{caption[1]}<caption id="table-{number}"><span class="caption-number">Table {number} </span>'

    def led(link: re.Match[str]) -> str:
        if link[1] not in known:
            getLogger(__name__).warning(f"{pagename}: no table is named {link[1]!r}")
            return link[0]
        return f'<a href="#table-{known[link[1]]}">Table {known[link[1]]}</a>'

    def named(fold: re.Match[str]) -> str:
        tables = "; ".join(f"{number}: {re.sub('<[^>]*>', '', words)}" for number, words in _SAID.findall(fold[3]))
        if not tables and "cell_output" in fold[3]:
            getLogger(__name__).warning(f"{pagename}: what is folded has no caption that says what it is: {fold[3]}")
        code = ", and code" if "cell_input" in fold[3] else ""
        return f"{fold[1]}Show {tables}{code}{fold[2]}Hide {tables}{code}{fold[3]}" if tables else fold[0]

    body = _FOLD.sub(named, _CAPTION.sub(numbered, context["body"]))
    context["body"] = re.sub(r'<a href="#table-([^"]+)">[^<]*</a>', led, body)


def _explain_terms(app: "Sphinx", pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Show a word's meaning where a pointer rests on its link into the glossary."""
    from docutils import nodes

    page = next((name for name in app.env.found_docs if name.endswith("glossary")), None)
    if page is None or "glossary.html#term-" not in context.get("body", ""):
        return
    items = app.env.get_doctree(page).findall(nodes.definition_list_item)
    meanings = {key: item[-1].astext() for item in items for key in item[0]["ids"]}

    def explained(link: re.Match[str]) -> str:
        return f'{link[0]} title="{html.escape(meanings[link[1]])}"'

    context["body"] = re.sub(r'href="glossary\.html#(term-[^"]+)"', explained, context["body"])


def _as_napoleon_reads(app: "Sphinx", what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Rewrite docstrings above their examples: names are code, |x| is no reference, "name : what it is" no type."""
    end = lines.index("Examples") if "Examples" in lines else len(lines)
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", "\n".join(lines[:end]))
    text = re.sub(r"\|(?=\S)|(?<=\S)\|", r"\\|", text)
    kind = getattr(obj, "__annotations__", {}).get("return")
    returned = f"{getattr(kind, '__name__', kind)}\n    "  # napoleon takes each line that is not indented for a type
    body = re.compile(r"(?<=^Returns\n-------\n)(?:.+\n?)+", re.MULTILINE)
    text = body.sub(lambda found: returned + " ".join(found[0].split()) + "\n", text)
    text = re.sub(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*) : ", r"\1\n    ", text, flags=re.MULTILINE)
    lines[:end] = text.split("\n")
