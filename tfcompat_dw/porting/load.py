"""``load_tf_weights``: a TF or Keras file's variables into a module that exists already."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.checkpoint.base import TORCH_DTYPES, Checkpoint
from tfcompat_dw.layers import _DepthwiseConv, _SeparableConv
from tfcompat_dw.porting.config import keras_major_of, parse_network
from tfcompat_dw.porting.layer import HasTfWeights, PortError, TfWeight
from tfcompat_dw.porting.model import PortedModel
from tfcompat_dw.porting.weights import variables_by_layer

NameMap = (
    Mapping[str, str] | Callable[[str], str | None] | Sequence[tuple[str | re.Pattern[str], str]]
)
LONGEST_SCOPE = 30
"""Words of a name that are compared."""
FEW = 8
"""Variables of one shape that are worth being listed as candidates."""
EMA = "ExponentialMovingAverage"
"""What TF 1's ``tf.train.ExponentialMovingAverage`` appends to a variable's name."""


# ---- what comes out --------------------------------------------------------------------------


@dataclass(frozen=True)
class WrongShape:
    """A weight and a variable that belong together by their names, but not by their shapes."""

    weight: str
    expected: tuple[int, ...]
    """In TensorFlow's layout."""
    variable: str
    shape: tuple[int, ...]


@dataclass
class LoadReport:
    """What ``load_tf_weights`` did; prints as a table.

    Attributes:
        matched: from the module's weights to the checkpoint's variables.
        by: of each matched weight, what told: ``"name map"``, ``"name"``, ``"end of name"`` or
            ``"shape"`` (the only weight and the only variable of that kind and shape).
        missing: weights without a variable.
        ambiguous: weights with several variables to choose from, and these.
        wrong_shapes: pairs whose shapes differ.
        left_over: variables that no weight took.
        optimizer: variables of an optimizer, steps and counters among those left over.
        name_map: what the name map says of weights or variables that there are not.
        ema: whether moving averages were taken where there are any; None if there are none.
    """

    matched: dict[str, str] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)
    wrong_shapes: list[WrongShape] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    optimizer: list[str] = field(default_factory=list)
    name_map: list[str] = field(default_factory=list)
    ema: bool | None = None

    @property
    def complete(self) -> bool:
        """Whether every weight of the module was loaded."""
        return not (self.missing or self.ambiguous or self.wrong_shapes)

    def __str__(self) -> str:
        lines = [
            f"{len(self.matched)} weights loaded, {len(self.missing)} missing, "
            f"{len(self.ambiguous)} ambiguous, {len(self.wrong_shapes)} of another shape; "
            f"{len(self.left_over)} variables left over, {len(self.optimizer)} of an optimizer"
        ]
        if self.ema is not None:
            lines.append(f"moving averages: {'taken' if self.ema else 'left'}")
        width = max(map(len, self.matched), default=0)
        for weight, variable in self.matched.items():
            note = "" if self.by.get(weight) == "name" else f"  (by {self.by.get(weight)})"
            lines.append(f"  {weight:{width}}  <- {variable}{note}")
        lines += [f"  name map: {problem}" for problem in self.name_map]
        lines += [f"  missing: {weight}" for weight in self.missing]
        lines += [
            f"  ambiguous: {weight}: {', '.join(names[:4])}{', ...' * (len(names) > 4)}"
            for weight, names in self.ambiguous.items()
        ]
        lines += [
            f"  another shape: {one.weight} {one.expected}, {one.variable} {one.shape}"
            for one in self.wrong_shapes
        ]
        lines += [f"  left over: {variable}" for variable in self.left_over]
        return "\n".join(lines)


def load_tf_weights(
    module: nn.Module,
    checkpoint: str | os.PathLike[str] | Mapping[str, Tensor],
    name_map: NameMap | None = None,
    *,
    ema: bool | str | None = None,
    strict: bool = True,
) -> LoadReport:
    """Loads a TensorFlow checkpoint's or a Keras file's variables into a module.

    The module may be built of PyTorch's layers and of this package's, or be a
    :class:`~tfcompat_dw.porting.PortedModel`.  Layouts are converted: dense filters
    ``[h, w, in, out]`` for ``nn.Conv2d``, depthwise ones ``[h, w, in, mult]`` as they are for this
    package's layers and for ``nn.Conv2d(groups=in_channels)``, matrices ``[in, out]`` for
    ``nn.Linear``; ``gamma``, ``beta``, ``moving_mean`` and ``moving_variance`` for batch
    normalizations.  Give batch normalizations TF's epsilon yourself (1e-3 in Keras).

    Args:
        module: what to load into, in place.
        checkpoint: what :func:`~tfcompat_dw.checkpoint.open_checkpoint` takes, or a mapping from
            names to tensors in TF's layouts.
        name_map: where the module's names are not the checkpoint's: a dict from names of
            parameters or of modules (``"stem.conv"``) to those of variables or of the scopes that
            they are in (``"MobilenetV1/Conv2d_0"``); a function from a parameter's name to either,
            or to None; or pairs of a regular expression and its replacement, applied to the
            parameter's name one after another.  Without it, and for names that it leaves out, names
            are matched if they are the same but for case, dots, slashes and underscores, or if one
            is the end of the other and there is no second one; then weights and variables that are
            the only ones of their kind and shape.  Nothing ambiguous is loaded.
        ema: whether to take a variable's exponential moving average where the checkpoint has one
            (TF 1's ``.../ExponentialMovingAverage``; another ending as text).  Both are
            trained weights and they are not the same network: where the checkpoint has any of a
            variable that is loaded, you must say True or False.
        strict: raise instead of loading a part.

    Returns:
        What was loaded from where, what is missing and what is left over; print it.

    Raises:
        ValueError: ``strict``, and a weight is missing, ambiguous or of another shape (the message
            is the report, and nothing was loaded); moving averages and ``ema=None``, or none and
            ``ema=True``.
        CheckpointError: the file is missing or damaged.

    Example:
        >>> report = load_tf_weights(model, "model.ckpt", {"stem.conv": "MobilenetV1/Conv2d_0"},
        ...                          ema=True)
        >>> print(report)
    """
    file = checkpoint if isinstance(checkpoint, Mapping) else open_checkpoint(checkpoint)
    variables = _variables(file, ema if isinstance(ema, str) else EMA)
    weights = list(_weights(module))
    if not weights:
        raise ValueError(f"{type(module).__name__} has no weights to load")
    match = _Match(weights, variables, _Mapper(name_map))
    report = match.report(use_ema=ema)
    if strict and not report.complete:
        raise ValueError(f"not every weight was found (strict=False loads the others): {report}")
    for weight, key in match.loads(report):
        weight.assign(_tensor(file, key).reshape(weight.tf_shape))
    return report


# ---- the checkpoint's side -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Variable:
    name: str
    key: str
    shape: tuple[int, ...]
    shadow: str | None = None
    """The key of its moving average."""
    raw: bool = True
    """False if the file has nothing but the moving average."""

    @property
    def short(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def scope(self) -> tuple[str, ...]:
        return _tokens(self.name.rpartition("/")[0])


def _variables(file: Mapping[str, Tensor], ema: str) -> list[_Variable]:
    """Every numeric variable, its moving average beside it."""
    names = _names(file)
    shapes = {key: shape for key in names if (shape := _numeric_shape(file, key)) is not None}
    ending = f"/{ema}"
    shadows = {
        names[key].removesuffix(ending): key for key in shapes if names[key].endswith(ending)
    }
    found = []
    for key, shape in shapes.items():
        name = names[key]
        if name.endswith(ending):
            continue
        found.append(_Variable(name, key, shape, shadows.pop(name, None)))
    alone = [_Variable(name, key, shapes[key], key, raw=False) for name, key in shadows.items()]
    return found + alone


def _names(file: Mapping[str, Tensor]) -> dict[str, str]:
    """From keys to TF's names, as far as the file tells them."""
    names = {key: _plain(key) for key in file}
    if not isinstance(file, Checkpoint):
        return names
    names.update({key: _plain(name) for key, name in file.variable_names().items()})
    config = file.model_config() if hasattr(file, "layers") else None
    if config is not None:
        names.update(_names_by_layer(file, config))
    return names


def _names_by_layer(file: Checkpoint, config: Mapping[str, Any]) -> dict[str, str]:
    """``outer/inner/kernel``, from the network's description."""
    try:
        network = parse_network(config, keras_major_of(file.keras_version()))
        found, _ = variables_by_layer(network, file)
    except PortError:  # a subclassed model: the names are as they are
        return {}
    return {one.key: "/".join((*path, one.name)) for path, ones in found.items() for one in ones}


def _plain(name: str) -> str:
    name = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").removeprefix("model_weights/")
    return re.sub(r":\d+$", "", name)


def _numeric_shape(file: Mapping[str, Tensor], key: str) -> tuple[int, ...] | None:
    if not isinstance(file, Checkpoint):
        return tuple(file[key].shape)
    info = file.info(key)
    return info.shape if info.dtype in TORCH_DTYPES else None


def _tensor(file: Mapping[str, Tensor], key: str) -> Tensor:
    return torch.as_tensor(file[key])


_SLOTS = re.compile(
    r"(/(Adam|AdamW|Momentum|RMSProp|Adagrad|Adadelta|Ftrl|LARSOptimizer|LAMB)(_\d+)?$)"
    r"|(^|/)(training|optimizer\w*|_optimizer|optimizer_weights)/"
    r"|\.OPTIMIZER_SLOT|(^|/)(beta[12]_power|global_step|save_counter|iterations?)(/|$)"
    r"|^(train|keras_api)/|(^|/)(seed_generator|_CHECKPOINTABLE_OBJECT_GRAPH)"
)
"""Names of what optimizers of TF 1, TF 2 and Keras keep, of steps and of counters."""


# ---- the module's side ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Weight:
    """A weight of the module, in one or several layouts that TF may have it in."""

    name: str
    """The state dict's, or TF's of a ported model."""
    scope: str
    """Of its module."""
    layouts: tuple[TfWeight, ...]
    number: int = 0
    """Among those of its module, in Keras' order."""

    @property
    def kind(self) -> str:
        return self.layouts[0].name.rpartition("/")[2]

    @property
    def endings(self) -> list[str]:
        """The names that it may have in its scope."""
        own = self.layouts[0].name
        return list(dict.fromkeys([own, *_ALIASES.get(own, ())]))

    def layout(self, shape: tuple[int, ...]) -> TfWeight | None:
        """The layout in which TF's array has this shape."""
        for layout in self.layouts:
            wanted = layout.tf_shape
            if shape == wanted:
                return layout
            # a convolution of 1 x 1 as a matrix and the other way round
            if len(wanted) == 2 and shape == (1, 1, *wanted):
                return layout
            if len(shape) == 2 and wanted == (1, 1, *shape):
                return layout
        return None


_ALIASES: dict[str, tuple[str, ...]] = {
    "kernel": ("weights", "weight", "w", "W", "filter", "filters", "depthwise_kernel"),
    "depthwise_kernel": (
        "kernel", "depthwise_weights", "depthwise_filter", "depthwise", "weights", "weight",
    ),
    "pointwise_kernel": ("pointwise_weights", "pointwise_filter", "pointwise"),
    "bias": ("biases", "b"),
    "gamma": ("scale",),
    "beta": ("offset",),
    "moving_mean": ("running_mean",),
    "moving_variance": ("running_variance", "running_std"),
    "embeddings": ("weights",),
    "alpha": ("alphas",),
}  # fmt: skip
"""Names that variables have in TF 1, slim, Sonnet and Keras 1."""


def _weights(module: nn.Module) -> Iterator[_Weight]:
    if isinstance(module, PortedModel):
        yield from _of_ported(module, "")
        return
    names = _parameter_names(module)
    covered: list[str] = []
    for path, part in module.named_modules():
        if any(path == above or path.startswith(f"{above}.") for above in covered):
            continue
        if isinstance(part, PortedModel):
            yield from _of_ported(part, path)
            covered.append(path)
            continue
        if isinstance(part, HasTfWeights):
            covered.append(path)
        for number, layouts in enumerate(_layouts(part)):
            name = names.get(layouts[0].tensor.data_ptr(), "")
            yield _Weight(name or f"{path}.{layouts[0].name}", path, layouts, number)


def _parameter_names(module: nn.Module) -> dict[int, str]:
    """By the address of the data: layouts are views."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {tensor.data_ptr(): name for name, tensor in tensors if tensor.numel()}


def _of_ported(model: PortedModel, prefix: str) -> Iterator[_Weight]:
    for attribute, name in model.tf_names.items():
        part = getattr(model, attribute)
        path = f"{prefix}/{name}" if prefix else name
        if isinstance(part, PortedModel):
            yield from _of_ported(part, path)
        elif isinstance(part, HasTfWeights):
            for number, weight in enumerate(part.tf_weights()):
                yield _Weight(f"{path}/{weight.name}", path, (weight,), number)


def _layouts(module: nn.Module) -> list[tuple[TfWeight, ...]]:
    """The weights of one module without those of its children, in Keras' order."""
    if isinstance(module, HasTfWeights):
        return [(weight,) for weight in module.tf_weights()]
    if isinstance(module, _DepthwiseConv):
        return _existing(("depthwise_kernel", module.weight), ("bias", module.bias))
    if isinstance(module, _SeparableConv):
        return _existing(
            ("depthwise_kernel", module.depthwise_weight),
            ("pointwise_kernel", module.pointwise_weight),
            ("bias", module.bias),
        )
    if isinstance(module, _ConvNd):
        return [_convolution(module), *_existing(("bias", module.bias))]
    if isinstance(module, nn.Linear):
        kernel = TfWeight("kernel", module.weight, (1, 0))
        return [(kernel,), *_existing(("bias", module.bias))]
    if isinstance(module, _BatchNorm):
        return _existing(
            ("gamma", module.weight),
            ("beta", module.bias),
            ("moving_mean", module.running_mean),
            ("moving_variance", module.running_var),
        )
    if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)):
        return _existing(("gamma", module.weight), ("beta", module.bias))
    if isinstance(module, nn.Embedding):
        return _existing(("embeddings", module.weight))
    if isinstance(module, nn.PReLU):
        return _existing(("alpha", module.weight))
    return _existing(*module.named_parameters(recurse=False))


def _existing(*named: tuple[str, Tensor | None]) -> list[tuple[TfWeight, ...]]:
    return [(TfWeight(name, tensor),) for name, tensor in named if tensor is not None]


def _convolution(module: _ConvNd) -> tuple[TfWeight, ...]:
    rank = len(module.kernel_size)
    dense = TfWeight("kernel", module.weight, (rank + 1, rank, *range(rank)))
    if isinstance(module, _ConvTransposeNd):  # TF: [..., out, in]; PyTorch: [in, out, ...]
        return (dense,)
    if module.groups == 1 or module.groups != module.in_channels:
        return (dense,)
    multiplier = module.out_channels // module.in_channels
    split = module.weight.detach().view(module.in_channels, multiplier, *module.kernel_size)
    axes = (rank, rank + 1, *range(rank))
    return (TfWeight("depthwise_kernel", split, axes), dense)


# ---- names ---------------------------------------------------------------------------------------


def _tokens(name: str) -> tuple[str, ...]:
    """Words, in lower case; a scope that is repeated, as Keras 2 repeats it, once."""
    words = [word for word in re.split(r"[/._\-]+", name.lower()) if word]
    scopes = [scope for scope in re.split(r"[/.]+", name.lower()) if scope]
    if len(scopes) > 1 and scopes[-1] == scopes[-2]:
        words = words[: len(words) - len([w for w in re.split(r"[_\-]+", scopes[-1]) if w])]
    return tuple(words)


class _Mapper:
    """What the caller says of names."""

    def __init__(self, name_map: NameMap | None) -> None:
        self._map = name_map
        if isinstance(name_map, str):
            raise TypeError("name_map must be a dict, a function or pairs of expressions; got text")
        self._is_pairs = isinstance(name_map, Sequence)
        self._used: set[str] = set()
        self.is_given = name_map is not None

    def unused(self) -> list[str]:
        """Names in a dict that no weight has asked for."""
        names = self._map if isinstance(self._map, Mapping) else {}
        return [f"{name!r} was used for no weight" for name in names if name not in self._used]

    def name_of(self, weight: _Weight) -> str | None:
        """TF's name of a weight, or of its scope; None if nothing is said."""
        if self._map is None:
            return None
        if callable(self._map):
            return self._map(weight.name)
        if self._is_pairs:
            return self._replaced(weight.name)
        return self._looked_up(weight)

    def _replaced(self, name: str) -> str | None:
        new = name
        for pattern, replacement in cast("Sequence[tuple[str, str]]", self._map):
            new = re.sub(pattern, replacement, new)
        return None if new == name else new

    def _looked_up(self, weight: _Weight) -> str | None:
        names = cast("Mapping[str, str]", self._map)
        if weight.name in names:
            self._used.add(weight.name)
            return names[weight.name]
        separator = "/" if "/" in weight.scope else "."
        parts = weight.scope.split(separator)
        for length in range(len(parts), 0, -1):
            above = separator.join(parts[:length])
            if above in names:
                self._used.add(above)
                return "/".join([names[above], *parts[length:]])
        return None


# ---- matching ----------------------------------------------------------------------------------


class _Match:
    """Pairs weights with variables, the surest ways first."""

    def __init__(self, weights: list[_Weight], variables: list[_Variable], mapper: _Mapper) -> None:
        self.weights, self.variables = weights, variables
        self.found: dict[str, tuple[_Weight, _Variable, str]] = {}
        self.ambiguous: dict[str, list[str]] = {}
        self.name_map: list[str] = []
        self._by_name = {variable.name: variable for variable in variables}
        self._mapped(mapper)
        self._by(self._same_names, "name")
        self._by(self._ends_of_names, "end of name")
        if not mapper.is_given:
            self._by(self._same_shapes, "shape")

    # -- ways

    def _mapped(self, mapper: _Mapper) -> None:
        for weight in self.weights:
            name = mapper.name_of(weight)
            variable = None if name is None else self._named(name, weight)
            if variable is not None:
                self.found[weight.name] = (weight, variable, "name map")
            elif name is not None:
                self.name_map.append(f"no variable {name!r} for {weight.name}")
        self.name_map += mapper.unused()

    def _named(self, name: str, weight: _Weight) -> _Variable | None:
        """A variable of this name, or the one for this weight in a scope of this name."""
        name = _plain(name)
        if name in self._by_name:
            return self._by_name[name]
        for scope in dict.fromkeys([name, _without_ending(name)]):
            for ending in [*weight.endings, f"vars/{weight.number}"]:
                for full in (f"{scope}/{ending}", f"{scope.replace('.', '/')}/{ending}"):
                    if full in self._by_name:
                        return self._by_name[full]
        return None

    def _by(self, way: Callable[[], dict[str, list[_Variable]]], by: str) -> None:
        """Takes what is the only variable for a weight that is the only weight for it."""
        candidates = way()
        takers: dict[str, list[str]] = {}
        for weight, variables in candidates.items():
            for variable in variables:
                takers.setdefault(variable.name, []).append(weight)
        weights = {weight.name: weight for weight in self.weights}
        for name, variables in candidates.items():
            if len(variables) == 1 and takers[variables[0].name] == [name]:
                self.found[name] = (weights[name], variables[0], by)
                self.ambiguous.pop(name, None)
            elif variables and (by != "shape" or len(variables) <= FEW):
                self.ambiguous[name] = [variable.name for variable in variables]

    def _free(self) -> tuple[list[_Weight], list[_Variable]]:
        taken = {variable.name for _, variable, _ in self.found.values()}
        return (
            [weight for weight in self.weights if weight.name not in self.found],
            [
                variable
                for variable in self.variables
                if variable.name not in taken and not _SLOTS.search(variable.name)
            ],
        )

    def _same_names(self) -> dict[str, list[_Variable]]:
        weights, variables = self._free()
        by_name: dict[tuple[tuple[str, ...], str], list[_Variable]] = {}
        for variable in variables:
            by_name.setdefault((variable.scope, variable.short), []).append(variable)
        found = {}
        for weight in weights:
            scope = _tokens(weight.scope)
            for ending in weight.endings:
                middle, _, short = ending.rpartition("/")
                ones = by_name.get(((*scope, *_tokens(middle)), short), [])
                if ones:
                    found[weight.name] = ones
                    break
        return found

    def _ends_of_names(self) -> dict[str, list[_Variable]]:
        weights, variables = self._free()
        by_end: dict[tuple[str, ...], list[_Variable]] = {}
        for variable in variables:
            scope = variable.scope
            for start in range(max(0, len(scope) - LONGEST_SCOPE), len(scope)):
                by_end.setdefault(scope[start:], []).append(variable)
        by_scope: dict[tuple[str, ...], list[_Variable]] = {}
        for variable in variables:
            by_scope.setdefault(variable.scope, []).append(variable)
        found = {}
        for weight in weights:
            scope = _tokens(weight.scope)
            longer = by_end.get(scope, [])
            shorter = [
                one for start in range(1, len(scope)) for one in by_scope.get(scope[start:], [])
            ]
            ones = {one.name: one for one in [*longer, *shorter] if self._fits(weight, one)}
            if scope and ones:
                found[weight.name] = list(ones.values())
        return found

    def _same_shapes(self) -> dict[str, list[_Variable]]:
        weights, variables = self._free()
        by_short: dict[str, list[_Variable]] = {}
        for variable in variables:
            by_short.setdefault(variable.short, []).append(variable)
        return {
            weight.name: [
                variable
                for ending in weight.endings
                for variable in by_short.get(ending, ())
                if weight.layout(variable.shape)
            ]
            for weight in weights
        }

    def _fits(self, weight: _Weight, variable: _Variable) -> bool:
        return variable.short in weight.endings and weight.layout(variable.shape) is not None

    # -- results

    def report(self, use_ema: bool | str | None) -> LoadReport:
        """What is to be loaded; decides on moving averages."""
        report = LoadReport()
        report.name_map = self.name_map
        report.ema = self._ema(use_ema)
        for weight in self.weights:
            if weight.name in self.found:
                self._sort_in(report, *self.found[weight.name])
            elif weight.name in self.ambiguous:
                report.ambiguous[weight.name] = self.ambiguous[weight.name]
            else:
                report.missing.append(weight.name)
        taken = set(report.matched.values()) | {one.variable for one in report.wrong_shapes}
        for variable in self.variables:
            if variable.name not in taken:
                slots = _SLOTS.search(variable.name)
                (report.optimizer if slots else report.left_over).append(variable.name)
        return report

    def _sort_in(self, report: LoadReport, weight: _Weight, variable: _Variable, by: str) -> None:
        if weight.layout(variable.shape) is None:
            expected = weight.layouts[0].tf_shape
            wrong = WrongShape(weight.name, expected, variable.name, variable.shape)
            report.wrong_shapes.append(wrong)
        elif report.ema is False and not variable.raw:
            report.missing.append(weight.name)
        else:
            report.matched[weight.name] = variable.name
            report.by[weight.name] = by

    def _ema(self, wanted: bool | str | None) -> bool | None:
        found = [variable for _, variable, _ in self.found.values() if variable.shadow is not None]
        if wanted is None:
            if found:
                raise ValueError(
                    f"the checkpoint has exponential moving averages of {len(found)} of the "
                    f"variables, {found[0].name} among them: say ema=True to load these (what "
                    f"published accuracies are of) or ema=False to load the variables themselves"
                )
            return None
        if wanted and not found:
            raise ValueError("ema=True, but the checkpoint has no moving averages; say ema=None")
        return bool(wanted)

    def loads(self, report: LoadReport) -> Iterator[tuple[TfWeight, str]]:
        """Each weight in its layout, and the key to load."""
        for name in report.matched:
            weight, variable, _ = self.found[name]
            layout = weight.layout(variable.shape)
            assert layout is not None
            use_shadow = report.ema and variable.shadow is not None
            yield layout, variable.shadow if use_shadow and variable.shadow else variable.key


def _without_ending(name: str) -> str:
    """``stem.conv`` of ``stem.conv.weight``: what expressions make of a parameter's name."""
    head, dot, tail = name.rpartition(".")
    own = {"weight", "bias", "running_mean", "running_var", "depthwise_weight", "pointwise_weight"}
    return head if dot and tail in own else name
