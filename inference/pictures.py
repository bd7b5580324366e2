"""Pictures of predictions: drawn over their images, and the attention of a model that generates."""

import math
import re
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
from jaxtyping import Array

from core.errors import UserError
from inference.predict import Predictions, Trained
from reporting import attention as attention_figures
from reporting import drawings
from reporting.drawing import PLAIN, canvas, shorten
from training import build
from training.workdir import writing

ACROSS = 4  # pictures in a row


def draw(path: str, predictions: Predictions) -> None:
    """Draws the predictions over the images of their inputs, as the task's drawing does.

    Raises UserError for a task without a drawing.
    """
    run, count = predictions.run, len(predictions.rows)
    paint = drawings.painter(run.task)
    height, width = predictions.inputs.batch[run.task.inputs[0]].shape[-3:-1]
    columns = min(count, ACROSS)
    rows = -(-count // columns)
    with canvas(3 * columns, (3 * height / width + 0.3) * rows, {}) as figure:
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in places:
            axes.axis("off")
        for i, axes in enumerate(places[:count]):
            example, prediction = (
                {key: x[i] for key, x in arrays.items()} for arrays in (predictions.inputs.batch, predictions.outputs)
            )
            paint(axes, example, prediction, run.task)
            axes.set_title(shorten(Path(predictions.inputs.names[i]).name, 40), fontsize=8, **PLAIN)
        with writing(Path(path)) as file:
            figure.savefig(file, dpi=150)


def draw_attention(path: str, predictions: Predictions) -> None:
    """Draws the attention weights for the first input, over its image or its words, at each generated token.

    Raises UserError for a model without attention to its input.
    """
    run, outputs, batch = predictions.run, predictions.outputs, predictions.inputs.batch
    attention = [path for path in outputs if path.split("/")[-1] == "attention"]
    if not attention:
        raise UserError(f"--attention: {run.config.model.name} does not attend to its input")
    last = max(attention, key=lambda path: [int(number) for number in re.findall(r"\d+", path)])  # "block10" > "block9"
    words = [run.task.vocabulary.token(index) for index in outputs["prediction"][0, : outputs["lengths"][0]]]
    weights, key = outputs[last][0, : len(words)], run.task.conditions[0]
    weights = weights.mean(1) if weights.ndim == 3 else weights  # over heads
    if vocabulary := run.info.keys[key].vocabulary:
        source = [vocabulary.token(index) for index in batch[key][0, : batch[f"{key}_lengths"][0]]]
        attention_figures.over_words(path, source, words, weights[:, : len(source)])
    else:
        grid = _feature_map(run)
        places = weights[:, weights.shape[1] - math.prod(grid) :]  # tokens without a place come first
        attention_figures.over_image(path, batch[key][0], words, places.reshape(-1, *grid))


def _feature_map(run: Trained) -> tuple[int, int]:
    """Returns the rows and columns of the feature map that the model attends to."""

    def features(model: nn.Module, image: Array) -> Array:
        *_, last = model.image_network.features(image, train=False).values()
        return last

    image = build.transformed_batch(run.transform, run.info)[run.task.conditions[0]]
    _, rows, columns, _ = jax.eval_shape(partial(run.model.apply, method=features), run.variables, image).shape
    return rows, columns
