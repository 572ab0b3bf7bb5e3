"""The book: what a chapter is run with, running chapters, building and checking the site."""

from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2]


def project() -> Path:
    """Return the root of the checkout, which holds the book: around the package, or the current folder.

    Raises
    ------
    FileNotFoundError
        If neither is a checkout.
    """
    for root in (_SOURCE, Path.cwd()):
        if all((root / name).exists() for name in ("_toc.yml", "_config.yml", "book")):
            return root
    raise FileNotFoundError(
        "the book needs a checkout of its repository, with _toc.yml, _config.yml and book/, and there is none in "
        f"{Path.cwd()}: clone the repository and run the same command in its folder"
    )


def number_of(notebook: Path) -> str:
    """What the command line calls a chapter: "5", "a1" or "ledger"."""
    return notebook.stem.partition("_")[0].lstrip("0")
