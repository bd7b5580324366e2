"""The table of an experiment next to the paper's, and experiments/README.md, the tables of all kept results.

    python -m experiments.table [FOLDER...]

Copies the results of the folders (of experiments/runs) to experiments/results, and writes the README of all of these.
"""

import dataclasses
import math
import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core import cli
from experiments.engine import plot, results
from experiments.engine import statistics as judge
from experiments.engine.experiment import Experiment, changed, folder_name, load
from experiments.engine.statistics import NOT, REPRODUCED, UNDECIDED, Interval, Row, Verdict
from training.workdir import write_whole

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results", HERE / "README.md"
KEPT = ("results.jsonl", "meta.json", "table.png", "gradients.png")
COST = ("parameters", "seconds per run")  # seconds: median of the runs that did not diverge
COLORS = {REPRODUCED: "green", NOT: "red"}
VERDICTS = (REPRODUCED, NOT, UNDECIDED)


@dataclasses.dataclass(frozen=True)
class Measured:
    """An experiment with its results."""

    experiment: Experiment
    meta: dict[str, Any]
    records: list[results.Record]
    rows: list[Row]
    verdicts: list[Verdict]

    @classmethod
    def of(cls, folder: Path) -> "Measured":
        """Reads a folder written by `results.write`. Raises UserError."""
        records, meta = results.read(folder)
        experiment = changed(load(meta["config"])[0], meta.get("changes", ()))
        rows = judge.rows(experiment, records)
        return cls(experiment, meta, records, rows, judge.verdicts(experiment, rows))

    @property
    def heading(self) -> list[str]:
        tuned = [key.rpartition(".")[2].replace("_", " ") for key in self.experiment.tune]
        paper = [f"paper: {self.experiment.paper.metric}"] if self.experiment.paper.values else []
        best = "lower is better" if self.experiment.metric.startswith("-") else "higher is better"
        gain = ["gain over the previous row"] if self.experiment.ladder else []
        return ["row", f"{self.experiment.metric.lstrip('-')} ({best})", *gain, "seeds", *tuned, *COST, *paper]

    @property
    def lines(self) -> list[list[str]]:
        published = self.experiment.paper
        paper = {row: f"{x:g}{' (unverified)' * (row in published.recalled)}" for row, x in published.values.items()}
        lines = []
        for row, before in zip(self.rows, (None, *self.rows), strict=False):
            tuned = [f"{row.tuned[key]:g}" if key in row.tuned else "" for key in self.experiment.tune]
            value = spread(row.interval) if row.values else "diverged" if row.diverged else "not run"
            lost = f", {row.diverged} diverged" if row.diverged else ""
            gain = [spread(judge.gain(self.experiment, row, before)[0]) if before else ""]
            gain = gain if self.experiment.ladder else []
            cells = [row.label, value, *gain, f"{len(row.values)}{lost}", *tuned, *self.cost(row.label)]
            lines.append(cells + ([paper.get(row.label, "")] if paper else []))
        return lines

    def cost(self, label: str) -> tuple[str, str]:
        """Returns the cells of `COST`; unknown values are blank."""
        chosen = [record for record in self.records if record.row == label and record.chosen]
        parameters = max((record.parameters for record in chosen), default=0)
        seconds = statistics.median([record.seconds for record in chosen if not record.diverged] or [0])
        return f"{parameters:,}" if parameters else "", f"{seconds:.0f}" if seconds else ""

    @property
    def claims(self) -> list[list[str]]:
        return [
            [
                verdict.claim.sentence,
                f"{verdict.claim.better} > {verdict.claim.worse}",
                f"{verdict.claim.least:g}",
                spread(verdict.difference),
                verdict.verdict,
            ]
            for verdict in self.verdicts
        ]


CLAIMS_HEADING = ["claim", "better > worse", "by more than", "difference", "verdict"]


def write(folder: Path) -> None:
    """Writes table.md and the figures to a folder with results, and prints the table."""
    measured = Measured.of(folder)
    plot.table(measured.experiment, measured.rows, folder / "table.png")
    plot.gradients(measured.experiment, measured.records, folder / "gradients.png")
    write_whole(folder / "table.md", f"# {title(measured)}\n\n{section(measured, folder, folder)}")
    show(measured)


def title(measured: Measured) -> str:
    """Returns "init_depth, cpu", or "init_depth, cpu, optimizer.name=adamw" for a changed experiment."""
    path, _, scale = measured.meta["config"].partition(":")
    return ", ".join([Path(path).stem, scale, *measured.experiment.change_texts])


def section(measured: Measured, folder: Path, beside: Path) -> str:
    """Returns the Markdown of an experiment, without a heading; figures are linked relative to the folder `beside`."""
    meta, paper = measured.meta, measured.experiment.paper
    link = f" ([arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}))" if paper.arxiv else ""
    otherwise, texts = results.changes(meta, measured.experiment), measured.experiment.change_texts
    seconds = sum(record.seconds for record in measured.records)
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    parts = [
        f"Changed in all rows: `{'`, `'.join(texts)}`." if texts else "",
        f"{paper.title}{link}{'. ' * bool(paper.table)}{paper.table}.",
        markdown(measured.heading, measured.lines),
        markdown(CLAIMS_HEADING, measured.claims) if measured.claims else "",
        *(f"![{name}]({(folder / name).relative_to(beside)})" for name in KEPT[2:] if (folder / name).exists()),
        f"`{meta['command']}`: {len(measured.records)} runs, {seconds / 60:.0f} minutes of processes in total; "
        f"{meta['hardware']}; {versions}.",
        "**Changed declarations since the measurement**: " + "; ".join(otherwise) + "." if otherwise else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def readme(kept: Path = RESULTS, experiments: Path = HERE) -> str:
    """Returns the content of README.md: an overview of all experiments and scales, and the tables of those run."""
    measured = {path.parent: Measured.of(path.parent) for path in sorted(kept.glob("*/meta.json"))}
    verdicts = {title(result): [verdict.verdict for verdict in result.verdicts] for result in measured.values()}
    overview = []
    for path in recipes(experiments):
        for scale in load(str(path))[0].scales:
            judged = verdicts.get(f"{path.stem}, {scale}")
            summary = (
                "not run" if judged is None else ", ".join(f"{judged.count(x)} {x}" for x in VERDICTS if x in judged)
            )
            overview.append([f"`{path.name}:{scale}`", load(f"{path}:{scale}")[0].paper.title, summary or "measured"])
    sections = [f"## {title(result)}\n\n{section(result, folder, kept.parent)}" for folder, result in measured.items()]
    intro = (
        "Generated by `python -m experiments.table` from `results/`. Values are means over seeds with their 95% t "
        "interval; seconds per run are the median over seeds, including compilation and data, of runs in parallel. "
        f"{judge.TEST} {totals(measured.values())}"
    )
    parts = ["# Papers' ablations, run here", intro, markdown(["experiment", "paper", "claims"], overview), *sections]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def totals(measured: Iterable[Measured]) -> str:
    """Returns a sentence with the number of claims by verdict."""
    claims = [[verdict.verdict for verdict in each.verdicts] for each in measured]
    good, bad, unclear = (sum(each.count(verdict) for each in claims) for verdict in VERDICTS)
    made = f"{good + bad + unclear} claims of {sum(map(bool, claims))} experiments"
    return f"Of {made}, {good} are reproduced, {bad} not, {unclear} undecided."


def recipes(folder: Path = HERE) -> list[Path]:
    """Returns the files that declare an experiment."""
    return [path for path in sorted(folder.glob("*.py")) if "\ndef get_config(" in path.read_text()]


def spread(interval: Interval) -> str:
    """Returns the text of a mean with half the width of its interval, which a single value lacks."""
    if math.isnan(interval.mean):
        return ""
    half = interval.high - interval.mean
    return f"{interval.mean:.4g}" + (f" ± {half:.2g}" if math.isfinite(half) else "")


def show(measured: Measured) -> None:
    """Prints the table and the verdicts."""
    console = Console(highlight=False, soft_wrap=not Console().is_terminal)
    title, texts = measured.experiment.paper.title, measured.experiment.change_texts
    title += f" (changed: {', '.join(texts)})" if texts else ""
    table = Table(*measured.heading, title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    for line in measured.lines:
        table.add_row(*line)
    console.print(table)
    if measured.claims:
        claims = Table(*CLAIMS_HEADING, box=box.SIMPLE_HEAD)
        for *line, verdict in measured.claims:
            claims.add_row(*line, verdict, style=COLORS.get(verdict, ""))
        console.print(claims)


def markdown(heading: list[str], lines: list[list[str]]) -> str:
    """Returns a table in Markdown."""
    rule = ["---"] * len(heading)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (heading, rule, *lines)
    )


def main(argv: list[str]) -> None:
    for folder in map(Path, argv[1:]):
        measured = Measured.of(folder)
        kept = RESULTS / folder_name(measured.meta["config"], measured.experiment)
        kept.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if (folder / name).exists():
                shutil.copyfile(folder / name, kept / name)
    write_whole(README, readme())
    print(f"{README}: {len(list(RESULTS.glob('*/meta.json')))} experiments with results")


if __name__ == "__main__":
    cli.run(main)
