"""A book of two pages in the real layout, quick to run and to build."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CONFIG = """
title: Tiny
only_build_toc_files: true
repository: {url: ""}
execute: {execute_notebooks: force}  # the build must override it
sphinx:
  extra_extensions: [hsiutils.book.offline]
  config: {suppress_warnings: ["mystnb.unknown_mime_type"], numfig_secnum_depth: 1}
"""
TOC = """
format: jb-book
root: book/index
parts:
- numbered: 1
  chapters: [{file: book/01_plot}]
- numbered: 1
  style: alphaupper
  chapters: [{file: book/a1_more}]
- chapters: [{file: book/glossary}]
"""
TABLE = """See <a href="#table-written">below</a>.

```{table} In Markdown.
| a |
|---|
| 1 |
```

<table data-name="written"><caption>Of numbers.</caption><tr><td>1</td></tr></table>"""
FOLDED = """from hsiutils.plots.tables import table
table(__import__("pandas").DataFrame({"a": [1]}), "What <is> folded, of some kind: one.")"""
START = "from hsiutils.plots.base import show, start\nfrom hsiutils.plots.charts import lines\nstart()"
PLOT = "show(lines({'a': ([0, 1, factor], [0, 1, 4])}, 'x (m)', 'y (m)'), 'A curve that rises.')"


def outputs(path: Path) -> list[str]:
    """What the cells of a notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return [output.get("text", "") for cell in cells for output in cell.get("outputs", [])]


def rewrite(path: Path, *code: str, tags: tuple[str, ...] = ()) -> Path:
    """Give a chapter other code after its title and its parameters."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = notebook.cells[:2] + [new_code_cell(text, metadata={"tags": list(tags)}) for text in code]
    nbformat.write(notebook, path)
    return path


def write_book(root: Path, plot: str = PLOT) -> Path:
    """Write the project into a folder."""
    (root / "book").mkdir(parents=True)
    (root / "_config.yml").write_text(CONFIG)
    (root / "_toc.yml").write_text(TOC)
    (root / "book" / "a1_more.md").write_text("# More\n")
    words = '```{glossary}\nlogit\n  A "number" & more.\n```\n\n```{table} Of words.\n| a |\n|---|\n| 1 |\n```\n'
    (root / "book" / "glossary.md").write_text(f"# Glossary\n\n{words}")
    text = f"# Front\n\n$$x^2$$ (eq-square)\n\n{TABLE}\n\n{{doc}}`01_plot` {{term}}`logit`"
    front = new_notebook(cells=[new_markdown_cell(text), new_code_cell("1 + 1"), new_code_cell(FOLDED)])
    front.cells[-1].metadata["tags"] = ["hide-cell"]
    start, figure = new_code_cell(START), new_code_cell(plot)
    start.metadata["tags"] = ["remove-output", "hide-input"]
    figure.metadata["mystnb"] = {"figure": {"name": "fig-a", "caption": "Metres against metres."}}
    parameters = new_code_cell("factor = 2")
    parameters.metadata["tags"] = ["parameters"]
    chapter = new_notebook(cells=[new_markdown_cell("# Plot\n\nSee {numref}`fig-a`."), parameters, start, figure])
    for name, notebook in (("index", front), ("01_plot", chapter)):
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, root / "book" / f"{name}.ipynb")
    return root
