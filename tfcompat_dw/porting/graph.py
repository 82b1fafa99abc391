"""The calls of a network in an order in which they can run, paddings folded into convolutions."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfcompat_dw.porting.config import (
    Call,
    Layer,
    Network,
    TensorRef,
    references,
    shown,
)
from tfcompat_dw.porting.layer import PortError

TAKE_PADDING = frozenset({"Conv2D", "DepthwiseConv2D", "SeparableConv2D"})
"""Classes whose builders understand ``explicit_padding``."""
Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Node:
    """One call of a layer."""

    layer: Layer
    number: int
    """Which of its calls, from 0."""

    @property
    def call(self) -> Call:
        """The arguments."""
        return self.layer.calls[self.number]


def ordered_nodes(network: Network, place: str = "the model") -> list[Node]:
    """The calls that the outputs need, each after those that it needs; else in the file's order.

    Raises:
        PortError: the graph has a cycle.
    """
    needs = _needed(network)
    position = {layer.name: number for number, layer in enumerate(network.layers)}
    users: dict[tuple[str, int], list[tuple[str, int]]] = {}
    missing = {node: len(sources) for node, sources in needs.items()}
    for node, sources in needs.items():
        for source in sources:
            users.setdefault(source, []).append(node)
    ready = [(position[name], number, name) for (name, number), n in missing.items() if n == 0]
    heapq.heapify(ready)
    ordered: list[Node] = []
    while ready:
        _, number, name = heapq.heappop(ready)
        ordered.append(Node(network.layer(name), number))
        for user in users.get((name, number), ()):
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, (position[user[0]], user[1], user[0]))
    if len(ordered) < len(needs):
        stuck = next(name for (name, _), count in missing.items() if count)
        raise PortError(f"{place}: layer {shown(stuck)} depends on its own output")
    return [node for node in ordered if node.layer.class_name != "InputLayer"]


def _needed(network: Network) -> dict[tuple[str, int], set[tuple[str, int]]]:
    """Every call that the outputs need, and which calls it needs itself."""
    needs: dict[tuple[str, int], set[tuple[str, int]]] = {}
    waiting = [(ref.layer, ref.call) for ref in references(network.outputs)]
    while waiting:
        name, number = waiting.pop()
        if (name, number) in needs:
            continue
        layer = network.layer(name)
        sources = set() if layer.class_name == "InputLayer" else _sources(layer.calls[number])
        needs[name, number] = sources
        waiting += sources
    return needs


def _sources(call: Call) -> set[tuple[str, int]]:
    return {(ref.layer, ref.call) for ref in references((call.args, call.kwargs))}


# ---- folding -----------------------------------------------------------------------------------


def fold_paddings(network: Network, classes: frozenset[str] = TAKE_PADDING) -> Network:
    """Moves a ZeroPadding2D into the convolution behind it, where that is its only user.

    The convolution's config gets ``explicit_padding``, ``((top, bottom), (left, right))``; nested
    models are left as they are.
    """
    uses = Counter(ref.layer for ref in _all_references(network))
    folded = {}
    for layer in network.layers:
        padding = _source_to_fold(layer, network, uses, classes)
        if padding is not None:
            folded[layer.name] = padding
    if not folded:
        return network
    gone = {padding.name for padding in folded.values()}
    layers = [
        _with_padding(layer, folded[layer.name]) if layer.name in folded else layer
        for layer in network.layers
        if layer.name not in gone
    ]
    return replace(network, layers=tuple(layers))


def _all_references(network: Network) -> Iterator[TensorRef]:
    yield from references(network.outputs)
    for layer in network.layers:
        for call in layer.calls:
            yield from references((call.args, call.kwargs))


def _source_to_fold(
    layer: Layer, network: Network, uses: Mapping[str, int], classes: frozenset[str]
) -> Layer | None:
    """The padding before a convolution, if it can be folded in."""
    if layer.class_name not in classes or layer.operation or len(layer.calls) != 1:
        return None
    if str(layer.config.get("padding", "valid")).lower() != "valid":
        return None
    args = layer.calls[0].args
    if len(args) != 1 or not isinstance(args[0], TensorRef) or args[0].index:
        return None
    padding = network.layer(args[0].layer)
    if padding.class_name != "ZeroPadding2D" or padding.operation or len(padding.calls) != 1:
        return None
    formats = {_data_format(one.config) for one in (layer, padding)}
    if uses[padding.name] != 1 or len(formats) != 1 or pads_of(padding.config) is None:
        return None
    return padding


def _with_padding(layer: Layer, padding: Layer) -> Layer:
    pads = pads_of(padding.config)
    return replace(layer, config={**layer.config, "explicit_padding": pads}, calls=padding.calls)


def _data_format(config: Mapping[str, Any]) -> str:
    return str(config.get("data_format") or "channels_last")


def pads_of(config: Mapping[str, Any]) -> Pads | None:
    """``((top, bottom), (left, right))`` of a ZeroPadding2D; None if its padding is no padding."""
    value = config.get("padding", 1)
    pair = [value, value] if _is_size(value) else value
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        return None
    sides = [[side, side] if _is_size(side) else side for side in pair]
    for side in sides:
        if not isinstance(side, (list, tuple)) or len(side) != 2 or not all(map(_is_size, side)):
            return None
    rows, columns = sides
    return (rows[0], rows[1]), (columns[0], columns[1])


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**20
