"""What a run leaves for people: `report.html`, one file without external resources, light and dark, wide and narrow."""

import base64
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reporting.figures.drawing import Figure, curves, number, readable

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1b2330; --quiet: #647083; --line: #e3e7ed;
  --accent: #3565d8; --bad: #cf3339; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1319; --card: #181e27; --text: #e4e9f0; --quiet: #94a1b5;
  --line: #2a3340; --accent: #82a8ff; --bad: #ff7b7f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); -webkit-text-size-adjust: 100%;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 20px 56px; }
h1 { margin: 0 0 24px; font-size: 30px; line-height: 1.2; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { margin: 40px 0 14px; font-size: 13px; font-weight: 600; letter-spacing: 0.07em; text-transform: uppercase;
  color: var(--quiet); }
h3 { margin: 0 0 2px; font-size: 17px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px; min-width: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px; }
.results { display: flex; flex-wrap: wrap; gap: 16px; }
.results > * { flex: 1 1 320px; }
.results > :first-child { flex-basis: 100%; }
.results h3 { margin-bottom: 10px; font-size: 14px; font-weight: 600; color: var(--quiet); }
.tiles { display: flex; flex-wrap: wrap; gap: 14px 40px; margin: 0; }
.tiles div { min-width: 84px; }
.tiles dt { font-size: 13px; color: var(--quiet); }
.tiles dd { margin: 0; font-size: 20px; font-weight: 600; line-height: 1.25; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
.first dd { font-size: 32px; letter-spacing: -0.02em; }
.first div:first-child dd { color: var(--accent); }
.tiles dd.bad, td.bad { color: var(--bad); }
figure { display: flex; flex-direction: column; margin: 0; }
figure p { margin: 0 0 12px; font-size: 14px; color: var(--quiet); }
figure svg, figure img { display: block; width: 100%; max-width: 560px; height: auto; margin: auto; }
figure svg text { font-family: inherit !important; }
details.card { padding: 0; overflow: hidden; }
details + details { margin-top: 12px; }
summary { padding: 14px 20px; font-weight: 600; cursor: pointer; }
summary span { font-weight: 400; color: var(--quiet); }
details > :not(summary) { margin: 0 20px 18px; }
.made { display: grid; gap: 12px; margin-top: 12px; }
.made h3 { margin-bottom: 10px; }
.versions { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 0; font-size: 14px; }
.versions div { display: flex; gap: 8px; }
.versions dt { color: var(--quiet); }
.versions dd { margin: 0; }
.wide { overflow-x: auto; }
pre { margin: 0; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 18px 6px 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--quiet); }
tr:last-child td { border-bottom: 0; }
@media (max-width: 560px) { main { padding: 24px 12px 40px; } h1 { font-size: 24px; } .card { padding: 16px; }
  .first dd { font-size: 26px; } .tiles { gap: 12px 26px; } th, td { padding-right: 10px; font-size: 13px; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def write(
    path: str | os.PathLike[str],
    *,
    title: str,
    command: str,
    versions: Mapping[str, str],
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    figures: Sequence[Figure],
    config: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report, all at once: a reader never sees half of one.

    Args:
        path: where; its folder exists.
        title: what was trained, on what.
        command: what repeats the run.
        versions: library -> version.
        summary: the final results, the most important first. A mapping in it is a group: split -> {metric: value}.
        history: rows of `metrics.jsonl`, drawn as curves and listed where they are evaluations.
        figures: shown after the curves, in this order.
        config: shown folded, as JSON.
    """
    body = [
        _section("Results", _results(summary)),
        _section("Learning curves", _grid(curves(history))),
        _section("A closer look", _grid(figures)),
        _section("How it was made", _details(history, config) + _provenance(command, versions)),
    ]
    page = PAGE.format(title=html.escape(title), style=STYLE, body="\n".join(filter(None, body)))
    path = Path(path)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>" if body else ""


def _results(summary: Mapping[str, Any]) -> str:
    """The first group large; then the other groups; then what stands alone (steps, time, ...)."""
    groups = [(readable(name), values) for name, values in summary.items() if isinstance(values, Mapping) and values]
    alone = {name: value for name, value in summary.items() if not isinstance(value, Mapping)}
    if alone:
        groups.append(("Run", alone))
    cards = [
        f'<div class="card"><h3>{html.escape(heading)}</h3>{_tiles(values, "tiles first" if first else "tiles")}</div>'
        for first, (heading, values) in zip([True] + [False] * len(groups), groups, strict=False)
    ]
    return f'<div class="results">{"".join(cards)}</div>' if cards else ""


def _tiles(values: Mapping[str, Any], style: str) -> str:
    tiles = [
        f"<div><dt>{html.escape(readable(name))}</dt><dd{_bad(value)}>{html.escape(number(value, name))}</dd></div>"
        for name, value in values.items()
    ]
    return f'<dl class="{style}">{"".join(tiles)}</dl>'


def _bad(value: Any) -> str:
    return ' class="bad"' if isinstance(value, float) and not math.isfinite(value) else ""


def _grid(figures: Sequence[Figure]) -> str:
    cards = [
        f'<figure class="card"><h3>{html.escape(each.title)}</h3><p>{html.escape(each.caption)}</p>'
        f"{_picture(each)}</figure>"
        for each in figures
    ]
    return f'<div class="grid">{"".join(cards)}</div>' if cards else ""


def _picture(figure: Figure) -> str:
    name = html.escape(figure.title)
    if figure.image.startswith(b"<svg"):
        return figure.image.decode().replace("<svg", f'<svg role="img" aria-label="{name}"', 1)
    if figure.image:
        return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(figure.image).decode()}">'
    return ""


def _details(history: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None) -> str:
    evaluations = [row for row in history if row["split"] != "train"]
    parts = []
    if evaluations:
        parts.append(("Evaluations", str(len(evaluations)), f'<div class="wide">{_table(evaluations)}</div>'))
    if config:
        parts.append(("Configuration", "", f"<pre>{html.escape(json.dumps(config, indent=2, default=str))}</pre>"))
    return "".join(
        f'<details class="card"><summary>{name} <span>{note}</span></summary>{body}</details>'
        for name, note, body in parts
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(["step", "split", *(name for row in rows for name in row)]))
    head = "".join(f"<th>{html.escape(readable(name))}</th>" for name in names)
    lines = "".join("<tr>" + "".join(_cell(row.get(name, ""), name) for name in names) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(value: Any, name: str) -> str:
    text = readable(value) if name == "split" else number(value, name)
    return f"<td{_bad(value)}>{html.escape(text)}</td>"


def _provenance(command: str, versions: Mapping[str, str]) -> str:
    listed = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(v)}</dd></div>" for name, v in versions.items()
    )
    return (
        f'<div class="made"><div class="card"><h3>Command</h3><pre>{html.escape(command)}</pre></div>'
        f'<div class="card"><h3>Versions</h3><dl class="versions">{listed}</dl></div></div>'
    )
