"""Detection: a set of boxes with classes per image, matched with the true ones (Carion et al. 2020, DETR, arXiv
2005.12872)."""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from core.errors import UserError
from core.info import Info
from core.regions import ENDING, region_of
from tasks.task import Score, Task, check_rank

# b: batch, l: scored blocks of the decoder, q: queries, m: true boxes, padding included, k: classes without "no
# object", n: examples

COSTLY = 100.0  # cost of a box that does not count; the cost of a real box is clipped below it
NARROWEST = 1e-3  # side of the part of an image that is not padding, in fractions; a crop may have nothing else
SIDE = 1000  # of the images whose boxes COCO's evaluation compares, in pixels: its overlaps do not depend on it


class Detections(TypedDict):
    """Outputs of a detector: logits of the classes and of "no object"; boxes, x and y of the centre, width and height,
    in fractions of the image."""

    logits: Float[Array, "b l q k"]
    boxes: Float[Array, "b l q 4"]


class Truth(NamedTuple):
    """True boxes [ymin, xmin, ymax, xmax] in fractions of the image, their classes, which of them are real, and the
    width and height of the part of the image that is not padding, twice."""

    boxes: Float[Array, "m 4"]
    labels: Int[Array, " m"]
    real: Bool[Array, " m"]
    sides: Float[Array, "4"]


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """Each true box is matched with one query, at the least total cost; a query without a box predicts "no object".

    The loss (section 3.1) is the class's cross-entropy, in which "no object" weighs `no_object`, 5 times the L1
    distance of the boxes and 2 times 1 - GIoU (arXiv 1902.09630), summed over the scored blocks of the decoder. The
    first is divided by the sum of the weights, the others by the number of true boxes. The cost of a match has the same
    terms, with - p(class) for the cross-entropy. Boxes without area, and with `crowd` those of groups, do not count.
    The L1 distance is in fractions of the image without the padding of a canvas (see the op `letterbox`).

    Attributes:
        boxes, labels: batch keys of the true boxes [b, m, 4], ymin, xmin, ymax, xmax in fractions of the image, and of
            their classes [b, m].
        crowd: batch key of boxes that hold a group [b, m]; evaluation neither rewards nor punishes boxes within. "":
            without.
        queries: the number of boxes that the model predicts per image.
        no_object: weight of "no object".
        matching: "optimal" (the Hungarian algorithm), or "greedy": the true boxes choose the cheapest free query, one
            after the other.
        threshold: least probability of the boxes that are printed and drawn.
        classes: names of the classes; () is the data set's, filled in by `bind`.
    """

    inputs: tuple[str, ...] = ("image",)
    boxes: str = "objects/bbox"
    labels: str = "objects/label"
    crowd: str = ""
    queries: int = 100
    no_object: float = 0.1
    matching: Literal["optimal", "greedy"] = "optimal"
    threshold: float = 0.5
    classes: tuple[str, ...] = ()

    figures: ClassVar[tuple[str, ...]] = ("pictures",)
    drawing: ClassVar[str] = "boxes"
    coefficients: ClassVar[Mapping[str, float]] = MappingProxyType(
        {"class_loss": 1.0, "box_loss": 5.0, "giou_loss": 2.0}
    )

    def __post_init__(self):
        self.check_range(queries=(1, None), no_object=(0, None), threshold=(0, 1))

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.boxes, self.labels, self.crowd)))

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"accuracy", "iou", "ap", "ap50", "ap75"}

    @property
    def model_fields(self) -> Mapping[str, Any]:
        return {"queries": self.queries}

    def bind(self, info: Info) -> "Task":
        """Raises UserError for classes without names: their number, the largest one + 1, would be unknown."""
        classes = self.classes or info.keys[self.labels].classes
        if not classes:
            raise UserError(f"{self.labels!r} of {info.name} has no names of classes: set task.classes")
        return dataclasses.replace(self, classes=classes)

    def output_size(self, info: Info) -> int:
        """Returns the number of classes; a detector has one more output, for "no object"."""
        return len(self.classes or info.keys[self.labels].classes)

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        """Returns the denominators of all terms: those of a mean over the queries of one block."""
        boxes, matched = jnp.sum(self._truth(batch)[0].real), jnp.sum(self._matched(batch))
        others = jnp.sum(batch["mask"]) * self.queries - matched
        return {"class_loss": matched + self.no_object * others, "box_loss": boxes, "giou_loss": boxes}

    def score(self, outputs: Detections, batch: Mapping) -> Score:
        """Returns the three losses; of the last block accuracy and IoU of the matched boxes, and per example predicted
        and true boxes, and which of these count: padding, also that of a batch of longer lists, does not.
        """
        check_rank(batch, self.boxes, 3)
        logits, boxes = outputs["logits"].astype(jnp.float32), outputs["boxes"].astype(jnp.float32)
        if logits.shape[2] != self.queries:
            raise ValueError(f"the model has {logits.shape[2]} queries and task.queries is {self.queries}")
        truth, crowd = self._truth(batch)
        each = jax.vmap(jax.vmap(self._block, in_axes=(0, 0, None)))(logits, boxes, truth)  # [b, l]
        mask, matched = batch["mask"], jnp.sum(self._matched(batch))
        losses = {term: jnp.sum(each[term] * mask[:, None]) for term in self.coefficients}
        metrics = {name: (jnp.sum(each[name][:, -1] * mask), matched) for name in ("accuracy", "iou")}
        total = self.total({term: jnp.sum(each[term], 1) for term in self.coefficients})
        arrays = {"loss": total / jnp.maximum(jnp.sum(truth.real, 1), 1), "true_box": truth.boxes, "crowd": crowd}
        arrays |= {"true_label": truth.labels, "counts": truth.real | crowd}
        return Score(losses, metrics, arrays | self.predict(outputs))

    def predict(self, outputs: Detections) -> dict[str, Array]:
        """Returns per query of the last block the box [ymin, xmin, ymax, xmax], its most probable class other than "no
        object", and the probability of that class."""
        probabilities = jax.nn.softmax(outputs["logits"][:, -1].astype(jnp.float32))[..., :-1]
        return {
            "prediction": jnp.argmax(probabilities, -1),
            "probability": jnp.max(probabilities, -1),
            "box": _edges(outputs["boxes"][:, -1].astype(jnp.float32)),
        }

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the average precision as COCO defines it (by pycocotools), over IoU from 0.5 to 0.95 ("ap"), and at
        0.5 and 0.75.

        Raises UserError without pycocotools.
        """
        return average_precision(arrays)

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the boxes of at least the probability `threshold`, the most probable first: [ymin, xmin, ymax, xmax]
        in fractions of the input's image, without the padding of a canvas.
        """
        chosen = self.chosen(prediction)
        region = region_of(example, self.inputs[0])
        boxes = (prediction["box"] - np.tile(region[:2], 2)) / np.tile(region[2:] - region[:2], 2)
        found = [
            {
                "label": self.classes[prediction["prediction"][i]],
                "probability": float(prediction["probability"][i]),
                "box": [float(edge) for edge in boxes[i]],
            }
            for i in chosen
        ]
        return {"prediction": found}

    def truth(self, example: Mapping[str, Any]) -> dict[str, Any]:
        truth, crowd = self._truth({key: np.asarray(example[key])[None] for key in example} | {"mask": np.ones(1)})
        real = np.asarray(truth.real | crowd)[0]
        boxes, labels = (np.asarray(x)[0][real] for x in (truth.boxes, truth.labels))
        return {"box": boxes, "prediction": labels, "probability": np.ones(len(labels))}

    def chosen(self, prediction: Mapping[str, np.ndarray]) -> Int[np.ndarray, " chosen"]:
        """Returns the indices of an image's boxes of at least the probability `threshold`, the most probable first."""
        order = np.argsort(-prediction["probability"], kind="stable")
        return order[prediction["probability"][order] >= self.threshold]

    def _truth(self, batch: Mapping) -> tuple[Truth, Bool[Array, "b m"]]:
        """Returns the true boxes, and which of them hold a group. Padding and boxes without area become the complete
        image, since they may hold any number, and are not real."""
        boxes = jnp.asarray(batch[self.boxes], jnp.float32)
        has_area = jnp.all(jnp.isfinite(boxes), -1) & jnp.all(boxes[..., 2:] > boxes[..., :2], -1)
        mask = jnp.asarray(batch.get(f"{self.boxes}_mask", jnp.ones(boxes.shape[:2])))
        counts = has_area & (mask > 0) & (batch["mask"] > 0)[:, None]
        crowd = counts & (jnp.asarray(batch[self.crowd]) > 0) if self.crowd else jnp.zeros_like(counts)
        boxes = jnp.where(counts[..., None], boxes, jnp.array([0.0, 0.0, 1.0, 1.0]))
        region = jnp.asarray(batch.get(f"{self.inputs[0]}{ENDING}", jnp.array([[0.0, 0.0, 1.0, 1.0]])))
        sides = jnp.maximum(_centred(region)[:, 2:], NARROWEST)
        sides = jnp.broadcast_to(jnp.tile(sides, 2), (len(boxes), 4))
        return Truth(boxes, jnp.where(counts, batch[self.labels], 0), counts & ~crowd, sides), crowd

    def _matched(self, batch: Mapping) -> Int[Array, " b"]:
        """Returns the number of true boxes of each image that have a query."""
        return jnp.minimum(jnp.sum(self._truth(batch)[0].real, 1), self.queries)

    def _block(self, logits: Float[Array, "q k"], boxes: Float[Array, "q 4"], truth: Truth) -> dict[str, Array]:
        """Returns the losses and metrics of one block's predictions for one image, summed over its boxes."""
        log_p, nothing = jax.nn.log_softmax(logits), logits.shape[1] - 1
        order = jnp.argsort(~truth.real, stable=True)  # a matching may leave out the last boxes
        truth = truth._replace(boxes=truth.boxes[order], labels=truth.labels[order], real=truth.real[order])
        distance = jnp.sum(jnp.abs(boxes[:, None] - _centred(truth.boxes)) / truth.sides, -1)  # [q, m]
        iou, giou = overlaps(_edges(boxes)[:, None], truth.boxes)
        cost = -jnp.exp(log_p[:, truth.labels]) + 5.0 * distance - 2.0 * giou
        cost = jnp.where(truth.real & jnp.isfinite(cost), jnp.minimum(cost, COSTLY - 1), COSTLY)
        pair = query, box = MATCHINGS[self.matching](jax.lax.stop_gradient(cost))
        real = truth.real[box]
        label = jnp.full(len(logits), nothing).at[query].set(jnp.where(real, truth.labels[box], nothing))
        nats = -jnp.take_along_axis(log_p, label[:, None], 1)[:, 0]
        return {
            "class_loss": jnp.sum(nats * jnp.where(label == nothing, self.no_object, 1.0)),
            "box_loss": jnp.sum(distance[pair] * real),
            "giou_loss": jnp.sum((1 - giou[pair]) * real),
            "accuracy": jnp.sum((jnp.argmax(log_p, 1)[query] == truth.labels[box]) * real),
            "iou": jnp.sum(iou[pair] * real),
        }


def overlaps(a: Float[Array, "*#b 4"], b: Float[Array, "*#b 4"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Returns IoU and generalised IoU (Rezatofighi et al. 2019, arXiv 1902.09630) of boxes [ymin, xmin, ymax, xmax]."""

    def area(low: Array, high: Array) -> Array:
        return jnp.prod(jnp.maximum(high - low, 0), -1)

    common = area(jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:]))
    union = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - common
    hull = area(jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:]))
    iou = common / jnp.maximum(union, 1e-9)
    return iou, iou - (hull - union) / jnp.maximum(hull, 1e-9)


def greedy(cost: Float[Array, "q m"]) -> tuple[Int[Array, " _"], Int[Array, " _"]]:
    """Returns pairs of a query and a true box: the boxes, in their order, choose the cheapest free query."""
    boxes = jnp.arange(min(cost.shape))

    def choose(taken: Bool[Array, " q"], box: Int[Array, ""]) -> tuple[Array, Array]:
        query = jnp.argmin(jnp.where(taken, jnp.inf, cost[:, box]))
        return taken.at[query].set(True), query

    _, queries = jax.lax.scan(choose, jnp.zeros(len(cost), bool), boxes)
    return queries, boxes


MATCHINGS: dict[str, Callable] = {"optimal": optax.assignment.hungarian_algorithm, "greedy": greedy}


def _edges(boxes: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """Returns [ymin, xmin, ymax, xmax] of [x, y, width, height]."""
    x, y, width, height = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)


def _centred(boxes: Float[Array, "*b 4"]) -> Float[Array, "*b 4"]:
    """Inverse of `_edges`."""
    top, left, bottom, right = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1)


def average_precision(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns COCO's average precision of the arrays of `Detection.score`; all 0 without a true box.

    Raises UserError without pycocotools.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError("average precision needs pycocotools: pip install 'onestep[detection]'") from error
    truth, found = _annotations(arrays), _results(arrays)
    if not truth or not found:
        return dict.fromkeys(("ap", "ap50", "ap75"), 0.0)
    categories = sorted({one["category_id"] for one in truth})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i, "width": SIDE, "height": SIDE} for i in range(len(arrays["box"]))],
            "annotations": truth,
            "categories": [{"id": number} for number in categories],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("ap", "ap50", "ap75")
    return {name: max(float(value), 0.0) for name, value in zip(names, evaluation.stats, strict=False)}


def _annotations(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns the true boxes in COCO's format."""
    labels, crowd = arrays["true_label"], arrays["crowd"]
    return [
        {"id": number, "image_id": int(i), "category_id": int(labels[i, j]), "iscrowd": int(crowd[i, j])}
        | _measures(arrays["true_box"][i, j])
        for number, (i, j) in enumerate(np.argwhere(arrays["counts"]), start=1)
    ]


def _results(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns the predictions in COCO's format."""
    return [
        {"image_id": i, "category_id": int(label), "score": float(score)} | _measures(box)
        for i in range(len(arrays["box"]))
        for label, score, box in zip(arrays["prediction"][i], arrays["probability"][i], arrays["box"][i], strict=True)
    ]


def _measures(box: Float[np.ndarray, "4"]) -> dict[str, Any]:
    top, left, bottom, right = (SIDE * float(edge) for edge in box)
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    return {"bbox": [left, top, width, height], "area": width * height}
