"""Nodes that are one layer together: a convolution with its padding, dilation, scale and bias.

TensorFlow writes ``Pad`` before a convolution for padding that is neither SAME nor VALID,
``SpaceToBatchND`` and ``BatchToSpaceND`` around one for its dilation
(``tensorflow/python/ops/nn_ops.py``, ``with_space_to_batch``), and a batch normalization that is
not fused as a row of products and sums (``tensorflow/python/ops/nn_impl.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from tfcompat_dw.checkpoint.graph import Graph, GraphNode, Output

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
WEIGHTED = (*CONVOLUTIONS, "Conv2DBackpropInput", "Conv3D", "MatMul", "BatchMatMulV2")
ADDITIONS = ("Add", "AddV2", "BiasAdd")
PADDINGS = ("Pad", "PadV2")


@dataclass(frozen=True)
class Chain:
    """Nodes in a row that become one layer; only the last one's result is used elsewhere."""

    weighted: GraphNode
    before: GraphNode | None = None
    """A ``Pad`` or ``SpaceToBatchND``."""
    after: tuple[GraphNode, ...] = ()
    """``BatchToSpaceND``, ``Mul``, and an addition."""

    @property
    def members(self) -> tuple[GraphNode, ...]:
        """In the order of computation."""
        return (*([self.before] if self.before else []), self.weighted, *self.after)

    @property
    def last(self) -> GraphNode:
        """Whose result is the layer's."""
        return self.members[-1]


@dataclass(frozen=True)
class Normalization:
    """A batch normalization that is written out: ``x * scale + (beta - mean * scale)``."""

    members: tuple[GraphNode, ...]
    input: Output
    mean: Output
    variance: Output
    epsilon: Output
    gamma: Output | None
    beta: Output | None

    @property
    def last(self) -> GraphNode:
        """Whose result is the layer's."""
        return self.members[-1]


@dataclass(frozen=True)
class Activation:
    """A function of one tensor that is written out with several nodes."""

    function: str
    """In :data:`tfcompat_dw.porting.operations.FUNCTIONS`, or ``prelu``."""
    members: tuple[GraphNode, ...]
    input: Output
    alpha: Output | None = None
    """Of a PReLU: minus its slopes if ``negated``."""
    negated: bool = False

    @property
    def last(self) -> GraphNode:
        """Whose result is the function's."""
        return self.members[-1]


Pattern = Chain | Normalization | Activation


@dataclass
class Structure:
    """Who uses whose results."""

    graph: Graph
    known: Mapping[Output, Tensor]
    """Results that are constants, or computed from constants."""
    users: dict[str, list[GraphNode]] = field(default_factory=lambda: defaultdict(list))
    taken: set[str] = field(default_factory=set)
    """Nodes that are a part of a pattern already, or of none in any case."""

    def __post_init__(self) -> None:
        for node in self.graph.nodes.values():
            for source in node.inputs:
                self.users[source.node].append(node)
        self._ends = {output.node for output in self.graph.outputs.values()}

    def source(self, output: Output) -> GraphNode:
        """The node whose result it is."""
        return self.graph.nodes[output.node]

    def only_user(self, node: GraphNode) -> GraphNode | None:
        """The one node that takes the result, once, and is in no pattern yet.

        None if the result is an output of the graph, too.
        """
        users = self.users[node.name]
        if len(users) != 1 or node.name in self._ends or users[0].name in self.taken:
            return None
        return users[0]

    def takes_trained(self, node: GraphNode) -> bool:
        """Whether a variable that is trained is among the inputs, as it is."""
        return any(one.node in self.graph.trainable for one in node.inputs)

    def operand(self, node: GraphNode, live: GraphNode) -> Tensor | None:
        """The known operand of a node whose other one is the result of ``live``."""
        if len(node.inputs) != 2:
            return None
        first, second = node.inputs
        other = second if first.node == live.name else first
        return self.known.get(other)


def patterns(
    structure: Structure, kept: Collection[str] = ()
) -> tuple[dict[str, Pattern], frozenset[str]]:
    """Every pattern by the name of its last node, and the names of the nodes before the last.

    Nodes of the kinds ``kept`` are in none.
    """
    nodes = structure.graph.nodes.values()
    structure.taken |= {node.name for node in nodes if node.op in kept}
    found: dict[str, Pattern] = {}
    absorbed: set[str] = set()
    for pattern in _candidates(structure):
        names = {node.name for node in pattern.members}
        if not names & structure.taken:
            found[pattern.last.name] = pattern
            absorbed |= names - {pattern.last.name}
            structure.taken |= names
    return found, frozenset(absorbed)


def _candidates(structure: Structure) -> Iterator[Pattern]:
    nodes = structure.graph.nodes.values()
    for node in nodes:
        if node.op in ("Add", "AddV2", "Sub") and (norm := _normalization(structure, node)):
            yield norm
    for node in nodes:
        if node.op in WEIGHTED and (chain := _chain(structure, node)):
            yield chain
    for node in nodes:
        if activation := _activation(structure, node):
            yield activation


# ---- convolutions and products ------------------------------------------------------------------


def _chain(structure: Structure, weighted: GraphNode) -> Chain | None:
    filter = structure.known.get(weighted.inputs[1]) if len(weighted.inputs) > 1 else None
    if filter is None or (weighted.inputs[0] in structure.known and weighted.op != _TRANSPOSED):
        return None
    before = _before(structure, weighted) if weighted.op in CONVOLUTIONS else None
    after = _after(structure, weighted, filter, before)
    if before is not None and before.op == _TO_BATCH and _FROM_BATCH not in _ops(after):
        before, after = None, _after(structure, weighted, filter, None)
    return Chain(weighted, before, tuple(after))


_TRANSPOSED, _TO_BATCH, _FROM_BATCH = "Conv2DBackpropInput", "SpaceToBatchND", "BatchToSpaceND"


def _ops(nodes: Sequence[GraphNode]) -> list[str]:
    return [node.op for node in nodes]


def _before(structure: Structure, weighted: GraphNode) -> GraphNode | None:
    """What pads for a convolution that does not."""
    source = structure.source(weighted.inputs[0])
    if weighted.attributes.get("padding") != "VALID" or structure.only_user(source) is None:
        return None
    if source.name in structure.taken:
        return None
    if source.op in PADDINGS:
        zero = structure.known.get(source.inputs[2]) if len(source.inputs) > 2 else None
        is_zero = source.op == "Pad" or (zero is not None and not bool(zero.any()))
        return source if is_zero and source.inputs[1] in structure.known else None
    strides = weighted.attributes.get("strides") or [1]
    dilations = weighted.attributes.get("dilations") or [1]
    return source if source.op == _TO_BATCH and max(*strides, *dilations) == 1 else None


def _after(
    structure: Structure, weighted: GraphNode, filter: Tensor, before: GraphNode | None
) -> list[GraphNode]:
    """A scale, a bias, and the way back from a batch of pieces, each once."""
    found: list[GraphNode] = []
    channels, rank = _channels(weighted, filter), _RANKS.get(weighted.op, filter.dim())
    wanted = {"bias", "scale"}
    if before is not None and before.op == _TO_BATCH:
        wanted.add("batch")
    node: GraphNode | None = weighted
    while node is not None and wanted:
        user = structure.only_user(node)
        kind = None if user is None else _kind(structure, user, node, channels, rank)
        if user is None or kind not in wanted:
            break
        wanted -= {"bias", "scale"} if kind == "bias" else {kind}
        found.append(user)
        node = user
    return found


_RANKS = {"BatchMatMulV2": 2}
"""Of a result, at the least, where it is not that of the filter."""


def _kind(
    structure: Structure, user: GraphNode, live: GraphNode, channels: int, rank: int
) -> str | None:
    if user.op == _FROM_BATCH:
        return "batch" if user.inputs[0].node == live.name else None
    operand = structure.operand(user, live)
    if operand is None or not operand.is_floating_point():
        return None
    if operand.dim() > rank or not _is_per_channel(operand, channels, live):
        return None
    if user.op in ADDITIONS:
        return "bias"
    is_scale = user.op == "Mul" and not structure.takes_trained(user)
    return "scale" if is_scale else None


def _channels(weighted: GraphNode, filter: Tensor) -> int:
    """How many come out."""
    if filter.dim() < 2:
        return 0
    if weighted.op == "DepthwiseConv2dNative":
        return filter.shape[-2] * filter.shape[-1]
    is_turned = weighted.attributes.get("transpose_b") or weighted.attributes.get("adj_y")
    return filter.shape[-2 if is_turned or weighted.op == _TRANSPOSED else -1]


def _is_per_channel(operand: Tensor, channels: int, live: GraphNode) -> bool:
    """One number for each channel, where they are the last axis; or as ``BiasAdd`` takes it."""
    sizes = list(operand.shape)
    if live.attributes.get("data_format") in ("NCHW", "NCDHW"):
        return sizes == [channels] if live.op == "BiasAdd" else False
    return bool(sizes) and sizes[-1] == channels == operand.numel()


# ---- batch normalizations that are written out -------------------------------------------------


def _normalization(structure: Structure, node: GraphNode) -> Normalization | None:
    """``x * scale + (beta - mean * scale)``; without beta ``x * scale - mean * scale``."""
    for product, rest in (node.inputs, node.inputs[::-1]):
        if node.op == "Sub" and product is not node.inputs[0]:
            break
        scaled = structure.source(product)
        if scaled.op != "Mul" or rest not in structure.known:
            continue
        found = _terms(structure, node, scaled, rest)
        if found is not None and structure.only_user(scaled) is node:
            return found
    return None


def _terms(
    structure: Structure, node: GraphNode, scaled: GraphNode, rest: Output
) -> Normalization | None:
    for input, scale in (scaled.inputs, scaled.inputs[::-1]):
        if input in structure.known or scale not in structure.known:
            continue
        offset = _offset(structure, node, rest, scale)
        deviation = _deviation(structure, scale)
        if offset is not None and deviation is not None:
            (beta, mean), (gamma, variance, epsilon) = offset, deviation
            members = (scaled, node)
            return Normalization(members, input, mean, variance, epsilon, gamma, beta)
    return None


def _offset(
    structure: Structure, node: GraphNode, rest: Output, scale: Output
) -> tuple[Output | None, Output] | None:
    """(beta, mean) of ``beta - mean * scale``."""
    source, beta = structure.source(rest), None
    if node.op != "Sub":
        if source.op != "Sub":
            return None
        beta, product = source.inputs
        source = structure.source(product)
    if source.op != "Mul" or scale not in source.inputs:
        return None
    mean = source.inputs[0] if source.inputs[1] == scale else source.inputs[1]
    return beta, mean


def _deviation(structure: Structure, scale: Output) -> tuple[Output | None, Output, Output] | None:
    """(gamma, variance, epsilon) of ``rsqrt(variance + epsilon) * gamma``."""
    source, gamma = structure.source(scale), None
    if source.op == "Mul":
        roots = [one for one in source.inputs if structure.source(one).op == "Rsqrt"]
        if len(roots) != 1:
            return None
        gamma = source.inputs[0] if source.inputs[1] == roots[0] else source.inputs[1]
        source = structure.source(roots[0])
    if source.op != "Rsqrt":
        return None
    total = structure.source(source.inputs[0])
    if total.op not in ("Add", "AddV2"):
        return None
    variance, epsilon = total.inputs
    if structure.known[variance].numel() == 1:
        variance, epsilon = epsilon, variance
    return (gamma, variance, epsilon) if structure.known[epsilon].numel() == 1 else None


# ---- activations that are written out -----------------------------------------------------------


def _activation(structure: Structure, node: GraphNode) -> Activation | None:
    if node.op == "Mul" and len(node.inputs) == 2:
        return _swish(structure, node) or _hard_swish(structure, node)
    if node.op in ("Add", "AddV2", "Sub") and len(node.inputs) == 2:
        return _prelu(structure, node)
    return None


def _swish(structure: Structure, node: GraphNode) -> Activation | None:
    """``x * sigmoid(x)``."""
    for x, gate in (node.inputs, node.inputs[::-1]):
        source = structure.source(gate)
        if source.op == "Sigmoid" and source.inputs[0] == x and _is_inner(structure, source):
            return Activation("silu", (source, node), x)
    return None


def _hard_swish(structure: Structure, node: GraphNode) -> Activation | None:
    """``x * (relu6(x + 3) / 6)`` or ``x * relu6(x + 3) / 6``, in either order."""
    inner: list[GraphNode] = [node]
    sixth = _scaled_by(structure, node, 1 / 6)
    if sixth is not None:  # the sixth of a product
        product = structure.source(sixth)
        inner.append(product)
        if product.op != "Mul" or not _is_inner(structure, product):
            return None
        pairs = (product.inputs, product.inputs[::-1])
    else:
        pairs = (node.inputs, node.inputs[::-1])
    for x, gate in pairs:
        members = list(inner)
        source = structure.source(gate)
        if sixth is None:
            scaled = _scaled_by(structure, source, 1 / 6)
            if scaled is None or not _is_inner(structure, source):
                continue
            members.append(source)
            source = structure.source(scaled)
        if source.op != "Relu6" or not _is_inner(structure, source):
            continue
        total = structure.source(source.inputs[0])
        if _plus(structure, total, 3.0) == x and _is_inner(structure, total):
            return Activation("hard_silu", (total, source, *members[::-1]), x)
    return None


def _prelu(structure: Structure, node: GraphNode) -> Activation | None:
    """``relu(x) - alpha * relu(-x)``, or plus with another sign elsewhere, as Keras has it."""
    orders = (node.inputs,) if node.op == "Sub" else (node.inputs, node.inputs[::-1])
    for positive, negative in orders:
        relu, product = structure.source(positive), structure.source(negative)
        if relu.op != "Relu" or product.op != "Mul" or not _is_inner(structure, relu, product):
            continue
        for alpha, other in (product.inputs, product.inputs[::-1]):
            found = _negative_part(structure, other, relu.inputs[0])
            if alpha in structure.known and found is not None:
                members = (*found[0], relu, product, node)
                negated = found[1] != (node.op == "Sub")
                return Activation("prelu", members, relu.inputs[0], alpha, negated)
    return None


def _negative_part(
    structure: Structure, output: Output, x: Output
) -> tuple[tuple[GraphNode, ...], bool] | None:
    """The nodes of ``-relu(-x)``, or of ``relu(-x)`` and True."""
    source, outer = structure.source(output), tuple[GraphNode, ...]()
    if source.op == "Neg" and _is_inner(structure, source):
        source, outer = structure.source(source.inputs[0]), (source,)
    if source.op != "Relu" or not _is_inner(structure, source):
        return None
    minus = structure.source(source.inputs[0])
    if minus.op == "Neg" and minus.inputs[0] == x and _is_inner(structure, minus):
        return (minus, source, *outer), not outer
    return None


def _is_inner(structure: Structure, *nodes: GraphNode) -> bool:
    """Whether nothing outside takes their results."""
    return all(structure.only_user(node) is not None for node in nodes)


def _scaled_by(structure: Structure, node: GraphNode, factor: float) -> Output | None:
    """What a node multiplies by a number."""
    if node.op not in ("Mul", "RealDiv", "Div") or len(node.inputs) != 2:
        return None
    x, constant = node.inputs
    if node.op == "Mul" and x in structure.known:
        x, constant = constant, x
    value = _scalar(structure, constant)
    if value is None or value == 0 or x in structure.known:
        return None
    value = value if node.op == "Mul" else 1 / value
    return x if abs(value - factor) < 1e-6 else None


def _plus(structure: Structure, node: GraphNode, number: float) -> Output | None:
    """What a node adds a number to."""
    if node.op not in ("Add", "AddV2") or len(node.inputs) != 2:
        return None
    x, constant = node.inputs
    if x in structure.known:
        x, constant = constant, x
    return x if _scalar(structure, constant) == number else None


def _scalar(structure: Structure, output: Output) -> float | None:
    value = structure.known.get(output)
    return float(value) if value is not None and value.numel() == 1 else None
