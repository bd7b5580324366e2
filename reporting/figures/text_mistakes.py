"""The texts that a classifier is most wrong about."""

import numpy as np

from core.errors import printable
from reporting.drawing import Figure
from reporting.figures.image_mistakes import worst
from reporting.shown import Shown

LONGEST = 400  # characters of a text


def draw(shown: Shown, count: int = 12) -> Figure | None:
    """Lists the wrongly classified texts of highest loss with the probability of the predicted and the true class."""
    if not shown.texts() or "label" not in shown.arrays:
        return None
    labels, predictions = shown.arrays["label"], shown.arrays["prediction"]
    wrong = int(np.sum(labels != predictions))
    if not wrong:
        return Figure("Worst mistakes", f"None of {len(labels):,} is wrong.")
    chosen = worst(labels, predictions, shown.arrays["loss"], count)
    probabilities, texts = shown.arrays["probability"], [shown.text(key, chosen) for key in shown.texts()]
    rows = [("text", "predicted", "true")]
    for place, index in enumerate(chosen):
        text = " | ".join(column[place] for column in texts)
        named = [
            f"{printable(str(shown.classes[each]))} ({probabilities[index, each]:.1%})"
            for each in (predictions[index], labels[index])
        ]
        rows.append((_cut(printable(text)), *named))
    caption = f"{wrong:,} of {len(labels):,} are wrong; highest loss first, with the probability that the model gives."
    return Figure("Worst mistakes", caption, table=rows)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()}…"
