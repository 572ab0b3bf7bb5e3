"""What every figure shares: the backend, the palette, the size, and words for those who cannot see it."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import holoviews as hv
from bokeh.embed import components

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every common colour vision."""
SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"
HEIGHT = 340
"""Of charts, in screen pixels; their width follows the page."""
CHART: dict[str, Any] = {"responsive": True, "height": HEIGHT, "show_grid": True, "toolbar": None}
_TURN = """
const moved = event.target;
for (const other of moved.options ? document.querySelectorAll('.hsi-controls select') : []) {
  const alike = other.parentElement.textContent === moved.parentElement.textContent;
  if (!alike || other.value === moved.value) continue;
  other.value = moved.value;
  other.dispatchEvent(new Event('input', {bubbles: true}));
}
const controls = [...this.querySelectorAll('select, input')];
const chosen = controls.map((one) => one.value).join('-');
for (const page of this.querySelectorAll('[data-page]')) page.hidden = page.dataset.page !== chosen;
for (const one of controls.filter((one) => one.dataset.values)) {
  const said = one.dataset.values.split('|')[one.value];
  one.setAttribute('aria-valuetext', said);
  one.nextElementSibling.value = said;
}
"""


@dataclass(frozen=True)
class Pages:
    """Elements that the reader pages through by selects, and by sliders where keys are numbers; see `pages`.

    Selects of the same name and choices move together, in whichever figure of a page they are.
    """

    frames: Mapping[tuple[Any, ...], Any]
    by: tuple[str, ...]

    def _repr_html_(self) -> str:
        keys = [list(dict.fromkeys(column)) for column in zip(*self.frames, strict=True)]
        shown = []
        for number, (key, element) in enumerate(self.frames.items()):
            place = "-".join(str(known.index(one)) for known, one in zip(keys, key, strict=True))
            shown.append(f'<div data-page="{place}"{" hidden" if number else ""}>{drawn(element)}</div>')
        controls = "".join(_control(name, known) for name, known in zip(self.by, keys, strict=True))
        turn = html.escape(" ".join(_TURN.split()), quote=True)
        return f'<div class="hsi-pages" oninput="{turn}">{"".join(shown)}<p class="hsi-controls">{controls}</p></div>'


@dataclass(frozen=True)
class Figure:
    """An element that a notebook shows as HTML, with a description for screen readers."""

    element: Any
    alt: str

    def _repr_html_(self) -> str:
        return f'<div class="hsi-figure" role="figure" aria-label="{_quoted(self.alt)}">{drawn(self.element)}</div>'


def start() -> None:
    """Load the plotting backend, with values at what is pointed at; the first thing that a chapter does."""
    hv.extension("bokeh", logo=False)
    hv.opts.defaults(*(getattr(hv.opts, kind)(tools=["hover"]) for kind in ("Curve", "HeatMap", "Points", "Scatter")))


def show(element: Any, alt: str) -> Figure:
    """Show a holoviews element, a picture or pages of them with a description of what is seen, which is not empty."""
    if not alt.strip():
        raise ValueError("a figure needs a description (alt) for those who cannot see it")
    return Figure(element, alt)


def drawn(element: Any) -> str:
    """HTML of an element: its own, or a chart of bokeh's.

    A chart draws itself at once, or when the page's `hsiLater` wants it: the book's pages draw what the reader sees.
    """
    if hasattr(element, "_repr_html_"):
        return str(element._repr_html_())
    model = hv.render(element, backend="bokeh")
    script, place = components(model, wrap_script=False)
    script = f"(self.hsiLater ?? ((chart, draw) => draw()))(document.currentScript?.parentElement, () => {{{script}}});"
    return f'<div class="hsi-plot" style="min-height: {model.height or 0}px">{place}<script>{script}</script></div>'


def colour(index: int) -> str:
    """Return the palette's colour, starting over after the last."""
    return PALETTE[index % len(PALETTE)]


def pages(frames: Mapping[Any, Any], *by: str) -> Pages:
    """Let the reader page through elements, the first first, in a page without a server.

    Elements go by their key, or by a tuple of keys, one for each control; `by` names the controls.

    Raises
    ------
    ValueError
        If there is nothing to show, or not an element for every combination of keys.
    """
    named = {key if isinstance(key, tuple) else (key,): element for key, element in frames.items()}
    full = 1
    for column in zip(*named, strict=True):
        full *= len(set(column))
    if not named or len(named) != full or any(len(key) != len(by) for key in named):
        raise ValueError(f"pages by {', '.join(by)}: expected an element for each of their values, got {list(frames)}")
    return Pages(named, by)


def _control(name: str, known: list[Any]) -> str:
    """A select, or a slider over numbers; both work by mouse, touch and keys."""
    texts = [_quoted(str(one)) for one in known]
    if len(known) > 2 and all(isinstance(one, Real) for one in known):
        values = f'min="0" max="{len(known) - 1}" value="0" data-values="{"|".join(texts)}" aria-valuetext="{texts[0]}"'
        return f'<label>{_quoted(name)} <input type="range" {values}><output>{texts[0]}</output></label>'
    options = "".join(f'<option value="{place}">{text}</option>' for place, text in enumerate(texts))
    return f"<label>{_quoted(name)} <select>{options}</select></label>"


def _quoted(text: str) -> str:
    return html.escape(text, quote=True)
