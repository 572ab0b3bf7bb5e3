"""What a printed book has around its text: numbers of chapters, figures, equations and tables.

Chapters have the numbers of the table of contents, appendices A1, A2, ..., the first page 0. Figures, equations and
tables go by them (Fig. 4.1), so that none has the number of one of the paper's.
"""

import re
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


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
    app.connect("html-page-context", _number_tables)


def _number_tables(app: "Sphinx", pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Number the captions of tables that cells made, which Sphinx does not read."""
    chapter = app.env.toc_secnumbers.get(pagename, {}).get("")
    if not chapter or "body" not in context:
        return
    numbers = (f"{chapter[0]}.{index}" for index in count(1))

    def numbered(_: re.Match[str]) -> str:
        number = next(numbers)
        return f'<caption id="table-{number}"><span class="caption-number">Table {number} </span>'

    context["body"] = re.sub("<caption>(?!<span)", numbered, context["body"])
