"""Pages: the Jinja templates of this folder, with autoescape, written as one file that loads nothing."""

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reporting.drawing import Figure, number, readable
from training.workdir import write_whole


def write(path: Path, template: str, **values: Any) -> None:
    """Writes the page that a template makes of the values, complete or not at all."""
    write_whole(path, _environment().get_template(template).render(values))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "readable": readable, "picture": picture, "columns": columns}
    environment.tests["not_finite"] = lambda value: isinstance(value, float) and not math.isfinite(value)
    return environment


def picture(figure: Figure) -> Markup:
    """Returns the element of a figure's image; nothing if it has none."""
    if figure.image.startswith(b"<svg"):
        element = Markup('<svg role="img" aria-label="{}"').format(figure.title)
        return Markup(figure.image.decode().replace("<svg", element, 1))
    if figure.image:
        data = base64.b64encode(figure.image).decode()
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(figure.title, data)
    return Markup()


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the columns of a table of rows of metrics.jsonl."""
    return list(dict.fromkeys(["step", "split", *(name for row in rows for name in row)]))
