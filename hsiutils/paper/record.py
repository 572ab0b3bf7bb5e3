"""The record: evidence of a run too long to repeat, kept in the repository, and judged beside every run.

Networks are not kept, only what they were found to do (`hsiutils.paper.evidence`): a group of a netCDF file for each
kind of evidence, and a manifest that says how it was made and seals the file. `hsiutils record` makes both.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr
from tqdm import tqdm

from hsiutils.analysis.estimates import Estimate
from hsiutils.paper.claims import (
    NOT_MEASURED,
    NOT_TESTABLE,
    OUTCOMES,
    UNDECIDED,
    Claim,
    Verdict,
    evaluate_claims,
    in_short,
    ledger_table,
)
from hsiutils.paper.evidence import KINDS, Evidence, NotTestable
from hsiutils.paper.measures import reliabilities
from hsiutils.paper.results import RESULTS, in_words, provenance, read_manifest, sizes, write

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

MANIFEST, FILE = "claims_record.json", "claims_record.nc"
_FIELDS = {
    *("profile", "variants", "seeds", "origin", "date", "commit", "machine", "versions", "seconds", "scenes"),
    *("networks", "evidence", "untestable", "sha256"),
}
_FINDINGS = {
    "gradcam-not-conservative": "**GradCAM.** At the last layer it has one map for all pixels. Its sums explain "
    "{measured} of how a score varies from pixel to pixel, and so does an empty map; what adds up explains all of it",
    "head-contributions-reliable": "**Channels, which the paper would read.** Does a class lose most without the "
    "channels that add most to it? The rank correlation is {contribution} for what a channel adds (the paper's "
    "reading), and {score} for this book's score, which leaves out what all classes get alike. The larger is judged, "
    "and is reliable from 0.5 on",
    "head-contributions-see-what-was-learned": "**The same, after weights are redrawn.** A sanity check: how much more "
    "their map is like its own after redrawing than like another training's, as a difference of rank correlations, is "
    "{measured}; below 0 it shows what was learned",
    "marks-fall": "**PN and marks.** 25 bands with PN in the place of 3 bands (732, 827 and 929 nm), as the paper "
    "compares: road marks lose {measured} points of IoU",
    "vegetation-rises": "**PN and vegetation.** The same exchange: vegetation gains {measured} points of IoU",
    "pn-robust-to-illumination": "**PN and light.** The sun moves, and vegetation passes into shade or out of it. Of "
    "these pixels, 25 bands change the label of {measured} points more than 25 bands with PN; fewer is better",
}
"""What the first page says first, in words, of these claims."""
_ROUNDING = 1e-6
_NONE = "There is no record here: `hsiutils record` makes one, in some hours."


@dataclass(frozen=True)
class Record:
    """Evidence of another day, and what it was made with."""

    evidence: Evidence
    manifest: dict[str, Any]

    def __str__(self) -> str:
        return in_words(self.manifest)


def keep(run: "Run", folder: Path = RESULTS, progress: bool = True) -> Record:
    """Make the record of a run in a folder: train what is missing, gather all evidence, and write it at once.

    What was trained or measured stays in the store, so that a record that was interrupted is taken up there.
    """
    networks = list(product(run.variants, run.seeds))
    trained = run.networks(networks, progress)
    began, evidence = time.monotonic(), Evidence.of(run)
    found: dict[str, xr.Dataset] = {}
    untestable: dict[str, str] = {}
    with tqdm(KINDS, desc="evidence", unit="kind", disable=not progress) as bar:
        for kind in bar:
            bar.set_postfix_str(kind)
            try:
                found[kind] = evidence[kind]
            except NotTestable as reason:
                untestable[kind] = str(reason)
    keys: dict[str, dict[int, str]] = {name: {} for name in run.variants}
    for (name, seed), made in zip(networks, trained, strict=True):
        keys[name][seed] = made.key
    trainings = sum(made.manifest["seconds"] for made in trained)
    manifest = provenance(run) | {
        "seconds": {"training": round(trainings), "gathering": round(time.monotonic() - began)},
        "networks": keys,
        "evidence": list(found),
        "untestable": untestable,
    }
    manifest = write(found, manifest, folder / FILE)
    return Record(evidence, manifest)


def recorded(folder: Path = RESULTS) -> Record | None:
    """The record of a folder, None if there is none.

    Raises
    ------
    ValueError
        If what is there is damaged, incomplete, or no record.
    """
    path, file = folder / MANIFEST, folder / FILE
    if not path.exists() and not file.exists():
        return None
    try:
        manifest = read_manifest(file)
        if set(manifest) != _FIELDS:
            raise ValueError(f"expected the fields {', '.join(sorted(_FIELDS))}")
        evidence = Evidence(
            manifest["origin"],
            tuple(manifest["variants"]),
            tuple(manifest["seeds"]),
            partial(_read, file, manifest["evidence"], manifest["untestable"]),
        )
        record = Record(evidence, manifest)
        str(record)  # which reads what else must be there
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no record of the claims ({error}); take both files from the repository again, or delete both: "
            "the ledger then stands without, until `hsiutils record` makes another"
        ) from error
    return record


def _read(file: Path, there: list[str], untestable: dict[str, str], kind: str) -> xr.Dataset | str:
    if kind in there:
        return xr.load_dataset(file, group=kind, engine="h5netcdf")
    return untestable.get(kind, f"the record was made before {kind!r} was measured; `hsiutils record` makes another")


@dataclass(frozen=True)
class Ledger:
    """Verdicts of a run, and of the record where there is one, with what is to say of both in `words`, by line.

    The first page's findings are by `source`: the record, or else the run; its `readings` of channels are those of
    `measures.reliabilities`, none where they cannot be tested.
    """

    here: list[Verdict]
    record: list[Verdict] | None
    words: tuple[str, ...]
    source: str
    readings: Mapping[str, Estimate]

    @property
    def table(self) -> pd.DataFrame:
        """`ledger_table` of the record, or else of the run, with the verdicts of both side by side.

        Verdicts of studies, which no run has a part in, have a column of their own.
        """
        columns = {"record": self.record, "this run": self.here}
        found = {name: list(map(_of_run, each)) for name, each in columns.items() if each is not None}
        studies = [in_short(one) if one.claim.study else "" for one in self.here]
        table = ledger_table(self.record or self.here).drop(columns=["measured here", "verdict"])
        return table.assign(**found, study=studies)

    @property
    def counts(self) -> pd.DataFrame:
        """How many verdicts there are of each kind, a row for the record and for the run."""
        verdicts = {"record": self.record, "this run": self.here}
        found = {name: Counter(one.outcome for one in each) for name, each in verdicts.items() if each is not None}
        table = pd.DataFrame(found).T.reindex(columns=list(OUTCOMES)).fillna(0).astype(int)
        return table.loc[:, table.any()]

    @property
    def unanswered(self) -> str:
        """How many sentences the record, or else the run, leaves open, in words."""
        verdicts, whose = (self.here, "this run") if self.record is None else (self.record, "the record")
        count = Counter(one.outcome for one in verdicts)
        kinds = {kind: count[kind] for kind in (UNDECIDED, NOT_TESTABLE, NOT_MEASURED) if count[kind]}
        parts = ", ".join(f"{often} {kind}" for kind, often in kinds.items())
        asked = f"Of {len(verdicts)} sentences and questions of the paper {whose} leaves {sum(kinds.values())} open"
        return f"{asked}: {parts or 'none'}."

    @property
    def common(self) -> str:
        """How often the commonest verdict of the record, or else of the run, was reached, in words."""
        verdicts, whose = (self.here, "run") if self.record is None else (self.record, "record")
        ((outcome, often),) = Counter(one.outcome for one in verdicts).most_common(1)
        return f"the {whose}'s commonest, of {often} in {len(verdicts)}, is {outcome}"

    @property
    def findings(self) -> list[str]:
        """What the first page says first, of the record or else of the run."""
        verdicts = {one.claim.id: one for one in self.record or self.here}
        return [
            f"{words.format(measured=_shown(measured), **self.readings)}{_beside(verdicts[name].claim)}: "
            f"*{verdicts[name].outcome}*."
            for name, words in _FINDINGS.items()
            if (measured := verdicts[name].measured) is not None
        ]


def _of_run(verdict: Verdict) -> str:
    """`in_short`, of what the networks of a run decide."""
    return "" if verdict.claim.study else in_short(verdict)


def _beside(claim: Claim) -> str:
    """The paper's value, where it has one."""
    return "" if claim.paper is None else f" (the paper, on real scenes: {claim.paper:g})"


def _brief(made: Mapping[str, Any]) -> str:
    """Of a manifest, what a reader of the first page needs."""
    return f"the record of {made['date']}: {made['origin']} scenes, {len(made['seeds'])} networks for each input"


def _shown(measured: Estimate) -> str:
    """A figure for the first page, which has no use for how far rounding is from zero."""
    return "less than a millionth" if abs(measured.mean) < _ROUNDING else str(measured)


def judged(run: "Run", folder: Path = RESULTS) -> Ledger:
    """The ledger of a run beside that of the record."""
    kept = recorded(folder)
    here = evaluate_claims(Evidence.of(run))
    own = sizes({"profile": asdict(run.profile), "seeds": run.seeds, "origin": run.data.origin})
    said = f"This run ({own}): {score(here)}."
    if kept is None:
        return Ledger(here, None, (said, _NONE), f"this run ({own})", _readings(Evidence.of(run)))
    record = evaluate_claims(kept.evidence)
    agreed = agreed_verdicts(here, record)
    if kept.evidence.origin != run.data.origin:
        agreed += (
            f" The record's scenes are {kept.evidence.origin}, this run's {run.data.origin}: verdicts may differ so."
        )
    words = f"The record ({kept}): {score(record)}.", said, agreed
    return Ledger(here, record, words, _brief(kept.manifest), _readings(kept.evidence))


def _readings(evidence: Evidence) -> Mapping[str, Estimate]:
    try:
        return reliabilities(evidence)
    except NotTestable:
        return {}


def score(verdicts: list[Verdict]) -> str:
    """How many verdicts there are of each kind."""
    count = Counter(one.outcome for one in verdicts)
    return ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome])


def agreed_verdicts(here: list[Verdict], record: list[Verdict]) -> str:
    """In words, how many verdicts of a run and of the record agree, of those that both could reach by themselves."""
    pairs = [
        (one.outcome, other.outcome)
        for one, other in zip(here, record, strict=True)
        if one.claim.kind != "identity"
        and one.claim.study is None
        and not {one.outcome, other.outcome} & {NOT_TESTABLE, NOT_MEASURED}
    ]
    same = sum(one == other for one, other in pairs)
    either = sum(one != other and UNDECIDED in (one, other) for one, other in pairs)
    return (
        f"Of {len(pairs)} tests that both could make (identities and studies apart), {same} have the same verdict, "
        f"{either} are undecided in one of the two, and {len(pairs) - same - either} have verdicts that differ."
    )
