"""The optimizer of a config: any of optax by its own name, a schedule with warm-up, clipping, a decay mask, frozen
parameters and factors of the learning rate.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
import optax.contrib
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from core import names
from core.calls import Call, parse
from core.errors import UserError, nearest
from training.config import default, steps_of

Number = float | Float[Array, ""]  # an array if several runs with different numbers are one program
OURS = frozenset(default().optimizer)  # keys of the group that are not arguments of the optimizer itself
MASKS = ("mask", "weight_decay_mask")  # arguments of optax that `decay_mask` sets
AVERAGES = r"b\d|beta\d?|rho|momentum|decay|decay_rate"  # names of arguments that are factors of moving averages
HIDDEN = r"(?!(.*/)?head[/_]).*kernel"  # paths of the kernels of hidden layers


def _constant(peak: Number, steps: int) -> optax.Schedule:
    del steps
    return optax.constant_schedule(peak)


def _cosine(peak: Number, steps: int, final: float = 0.0) -> optax.Schedule:
    """Loshchilov & Hutter 2017 (arXiv 1608.03983), one period; `final` is a fraction of the peak."""
    _check_fraction("final", final)
    return optax.cosine_decay_schedule(peak, steps, alpha=final)


def _linear(peak: Number, steps: int, final: float = 0.0) -> optax.Schedule:
    _check_fraction("final", final)
    return optax.linear_schedule(peak, peak * final, steps)


def _rsqrt(peak: Number, steps: int, timescale: int = 10_000, cooldown: float = 0.0) -> optax.Schedule:
    """Inverse square root that leaves the peak at step 0 (Zhai 2022, arXiv 2106.04560, section 3.5).

    After `timescale` steps of warm-up it is the schedule of Vaswani 2017 (arXiv 1706.03762, section 5.3), "Noam", with
    the peak (width timescale)^-0.5. Over the last `cooldown`, a fraction of the steps, a factor falls linearly to 0.
    """
    _check_fraction("cooldown", cooldown)
    if timescale < 1:
        raise ValueError(f"timescale must be at least 1, not {timescale}")

    def rsqrt(step):
        return peak * jax.numpy.sqrt(timescale / (timescale + step))

    if not cooldown:
        return rsqrt
    return lambda step: rsqrt(step) * jax.numpy.clip((steps - step) / (cooldown * steps), 0.0, 1.0)


def _step(peak: Number, steps: int, boundaries: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1) -> optax.Schedule:
    """Multiplies by `factor` at each of `boundaries`, fractions of the steps (He 2016: 32k and 48k of 64k)."""
    for name, value in (("factor", factor), *(("boundaries", boundary) for boundary in boundaries)):
        _check_fraction(name, value)
    return optax.piecewise_constant_schedule(peak, {round(b * steps): factor for b in boundaries})


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:  # NaN is refused too
        raise ValueError(f"{name} must be from 0 to 1, not {value}")


SCHEDULES: dict[str, Callable] = {
    "constant": _constant, "cosine": _cosine, "linear": _linear, "rsqrt": _rsqrt, "step": _step,
}  # fmt: skip


def _known_schedule(name: str, where: str) -> Callable:
    if name not in SCHEDULES:
        raise UserError(f"{where} {name!r} is unknown: {nearest(name, SCHEDULES)}")
    return SCHEDULES[name]


def schedule(config: ConfigDict, steps: int, key: str = "learning_rate") -> optax.Schedule:
    """Returns step -> learning rate: linear warm-up to the peak `config[key]`, then the named schedule over the
    remaining steps.

    Raises UserError for an unknown schedule or argument, or a warm-up as long as the run.
    """
    where = "config.optimizer.schedule"
    tree = parse(config.schedule, where)
    name = tree.name
    _known_schedule(name, where)
    warmup = steps_of(config.warmup_steps, steps)
    if warmup >= steps and config.warmup_steps >= 1:
        raise UserError(f"config.optimizer.warmup_steps {warmup} must be below the {steps} steps of the run")
    warmup = min(warmup, steps - 1)
    args, kwargs = tree[1:] if isinstance(tree, Call) else ((), {})
    accepted = [p for p in inspect.signature(SCHEDULES[name]).parameters if p not in ("peak", "steps")]
    unknown = [key for key in kwargs if key not in accepted]
    if unknown or args:
        what = unknown[0] if unknown else repr(args[0])
        raise UserError(f"{where} {name} has no argument {what}: {nearest(what, accepted)}")
    _, kwargs = names.arguments(SCHEDULES[name], tree, _known_schedule, where)
    try:
        after = SCHEDULES[name](config[key], steps - warmup, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} {config.schedule!r}: {error}") from error
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, config[key], warmup), after], [warmup])


def create(
    config: ConfigDict, steps: int, params: PyTree, frozen: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """Returns the optimizer of the `optimizer` group for parameters like `params` (arrays or their shapes).

    Parameters that match the model's own patterns `frozen` do not train either; the optimizer keeps no state for them.

    Numbers of the group may be traced arrays; these must not be 0.

    Raises UserError for an unknown optimizer or argument, an optimizer that needs more than gradients, or a pattern
    that matches no parameter.
    """
    function = _optax_function(config.name)
    accepted = inspect.signature(function).parameters
    check_keys(config)
    arguments = {key: value for key, value in config.items() if key not in OURS}
    for key in arguments:
        _check_range(key, arguments[key])
    paths = parameter_paths(params)
    select(config.decay_mask, paths, "decay_mask")

    def decayed(tree: PyTree) -> PyTree:
        return select(config.decay_mask, parameter_paths(tree), "decay_mask")

    decays = decayed if _is_on(config.weight_decay) else None
    chain = [optax.clip_by_global_norm(config.clip_norm)] if _is_on(config.clip_norm) else []
    if "weight_decay" in accepted:  # always passed: a default of optax that no config key shows must not apply
        arguments["weight_decay"] = config.weight_decay
        arguments |= _mask(config, accepted, paths, decayed) if decays else {}
    else:
        if decays:
            chain.append(optax.add_decayed_weights(config.weight_decay, decays))
        if any("weight_decay" in key for key in arguments):  # adafactor names its decay differently
            arguments |= _mask(config, accepted, paths, decayed)
    if "muon_weight_dimension_numbers" in accepted:
        arguments.setdefault("muon_weight_dimension_numbers", hidden_kernels)
    rates = [key for key in arguments if key.endswith("_learning_rate")]  # peaks, too
    try:
        arguments |= {key: schedule(config, steps, key) for key in rates}
        chain.append(function(schedule(config, steps), **arguments))
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"config.optimizer: optax.{config.name} rejects its arguments: {error}") from error
    optimizer = optax.chain(*chain)
    if frozen := (*frozen, *config.frozen):
        labels = jax.tree.map(lambda on: "frozen" if on else "trained", select(frozen, paths, "frozen"))
        optimizer = optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)
    for pattern, factor in config.lr_multipliers:
        factors = jax.tree.map(lambda on, f=factor: f if on else 1.0, select((pattern,), paths, "lr_multipliers"))
        scale = optax.stateless(lambda updates, _, f=factors: jax.tree.map(jax.numpy.multiply, updates, f))
        optimizer = optax.chain(optimizer, scale)
    _check(config.name, optimizer, params)
    return optimizer


def check_keys(config: ConfigDict) -> None:
    """Raises UserError for an unknown optimizer, or a key of the `optimizer` group that it does not accept."""
    accepted = {*inspect.signature(_optax_function(config.name)).parameters, *OURS} - {*MASKS}
    if unknown := [key for key in config if key not in accepted]:
        key = unknown[0]
        hint = "config.optimizer.decay_mask sets it" if key in MASKS else nearest(key, accepted)
        raise UserError(f"config.optimizer.{key} is not an argument of optax.{config.name}: {hint}")


def _check_range(key: str, value: Any) -> None:
    """Raises UserError for a number that no optimizer can use."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise UserError(f"config.optimizer.{key} must be finite, not {value}")
    if re.fullmatch(AVERAGES, key) and not 0 <= value < 1:
        raise UserError(f"config.optimizer.{key} must be at least 0 and below 1, not {value}")
    if key.startswith("eps") and value < 0:
        raise UserError(f"config.optimizer.{key} must be at least 0, not {value}")


def _mask(config: ConfigDict, accepted: Mapping, paths: PyTree, decayed: Callable[[PyTree], PyTree]) -> dict[str, Any]:
    """Returns the argument that selects the parameters to decay.

    Raises UserError if it lacks this argument and `config.decay_mask` excludes a parameter.
    """
    for key in MASKS:
        if key in accepted:
            return {key: decayed}
    if not all(jax.tree.leaves(select(config.decay_mask, paths, "decay_mask"))):
        raise UserError(
            f"config.optimizer.decay_mask: optax.{config.name} decays all parameters or none: set it to ('.*',), or "
            "config.optimizer.weight_decay to 0"
        )
    return {}


def hidden_kernels(params: PyTree) -> PyTree:
    """Returns the axes of each matrix that Muon updates: of kernels, except the head's; None for the parameters that
    Adam updates (Jordan 2024, https://github.com/KellerJordan/modded-nanogpt).

    All axes of a kernel but the last belong to its input. In a trunk with `scan`, each turn has a kernel of its own.
    """

    def axes(path: str, x: Any) -> optax.contrib.MuonDimensionNumbers | None:
        first = int("blocks" in path.split("/"))
        if not re.fullmatch(HIDDEN, path) or x.ndim - first < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(first, x.ndim - 1)), x.ndim - 1)

    return jax.tree.map(axes, parameter_paths(params), params)


def _check(name: str, optimizer: optax.GradientTransformation, params: PyTree) -> None:
    """Raises UserError for an optimizer that the training step cannot use; computes only shapes."""
    try:
        state = jax.eval_shape(optimizer.init, params)
        jax.eval_shape(optimizer.update, params, state, params)
    except Exception as error:  # optax raises any exception for a schedule or a missing argument
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"config.optimizer.name {name!r} does not work with a schedule and gradients alone: {reason}"
        ) from error
    kind = optax.contrib.ScheduleFreeState
    if any(isinstance(leaf, kind) for leaf in jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, kind))):
        raise UserError(
            f"config.optimizer.name {name!r} is not supported: it must be evaluated with other weights than those it "
            "trains (optax.contrib.schedule_free_eval_params)"
        )


def _is_on(number: Number) -> bool:
    return isinstance(number, jax.core.Tracer) or bool(number)


def _optax_function(name: str) -> Callable:
    for module in (optax, optax.contrib):
        function = getattr(module, name, None)
        if callable(function) and "learning_rate" in inspect.signature(function).parameters:
            return function
    names = [
        key
        for module in (optax, optax.contrib)
        for key, value in vars(module).items()
        if inspect.isfunction(value) and "learning_rate" in inspect.signature(value).parameters
    ]
    known = (key for key in names if not key.startswith("_"))
    raise UserError(f"config.optimizer.name {name!r} is not an optimizer of optax: {nearest(name, known)}")


def frozen_size(patterns: tuple[str, ...], params: PyTree) -> tuple[int, int]:
    """Returns how many numbers of `params` (arrays or their shapes) match one of the patterns, and how many exist."""
    chosen = jax.tree.leaves(select(patterns, parameter_paths(params), "frozen"))
    sizes = [x.size for x in jax.tree.leaves(params)]
    return sum(size for size, on in zip(sizes, chosen, strict=True) if on), sum(sizes)


def parameter_paths(params: PyTree) -> PyTree:
    """Returns a tree like `params` whose leaves are their paths, "stem/conv/kernel"."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "/".join(str(key.key) for key in path), params)


def select(patterns: tuple[str, ...], paths: PyTree, key: str) -> PyTree:
    """Returns the tree of booleans that marks the paths fully matched by one of the regular expressions.

    Raises UserError for an invalid regular expression, or, except for `decay_mask`, a pattern without a match:
    `decay_mask` has patterns that not every model matches.
    """
    names = jax.tree.leaves(paths)
    for pattern in patterns:
        try:
            matches = any(re.fullmatch(pattern, name) for name in names)
        except re.error as error:
            raise UserError(f"config.optimizer.{key} {pattern!r} is not a regular expression: {error}") from error
        if not matches and key != "decay_mask":
            raise UserError(f"config.optimizer.{key} {pattern!r} matches no parameter: {nearest(pattern, names)}")
    return jax.tree.map(lambda name: any(re.fullmatch(pattern, name) for pattern in patterns), paths)
