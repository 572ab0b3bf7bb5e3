"""What is of the paper alone: runs, studies a chapter, claims."""

from importlib.util import find_spec

if lacking := [name for name in ("filelock", "grimp", "yaml") if find_spec(name) is None]:
    raise ModuleNotFoundError(f"the paper's studies need {', '.join(lacking)}: pip install 'hsiutils[book]'")
