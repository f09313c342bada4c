"""A Keras file as one flat list of layer calls: nested models taken apart, shared layers called several times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.qkeras.calls import Call, Layer, Model, Ref, clean_name
from edgeflow.frontends.qkeras.connections import Link
from edgeflow.frontends.qkeras.content import Content, damaged
from edgeflow.frontends.qkeras.fields import as_object
from edgeflow.frontends.qkeras.structure import Block, Leaf, leaves, read_structure
from edgeflow.frontends.qkeras.weights import find_weights

MOST_CALLS = 5000


def read_model(content: Content, where: str) -> Model:
    """The layers and calls of a file, nested models taken apart. Raises EdgeflowError; Unsupported for Lambda."""
    block = read_structure(content.config, where)
    found = list(leaves(block))
    weights = find_weights(content.format, content.arrays, found, where)
    layers = {
        leaf.index: Layer("/".join(leaf.names), leaf.kind, leaf.index, leaf.fields, weights.get(leaf.index, {}))
        for leaf in found
    }
    flat = _Flat(layers, where)
    inputs = tuple(flat.input(cast(Leaf, block.members[member])) for member in block.inputs)
    outputs = flat.run(block, inputs)
    name = as_object(as_object(content.config, where, "the configuration").get("config"), where, "config").get("name")
    return Model(
        name=(clean_name(name) if isinstance(name, str) else "") or "model",
        calls=tuple(flat.calls),
        inputs=inputs,
        outputs=outputs,
        output_names=tuple(block.members[member].names[-1] for member, _, _ in block.outputs),
    )


class _Flat:
    """Runs a tree of models on tensors that are only names, and writes down each layer's calls."""

    def __init__(self, layers: Mapping[int, Layer], where: str) -> None:
        self.calls: list[Call] = []
        self._layers, self._where = layers, where
        self._count: Counter[int] = Counter()
        self._left = MOST_CALLS

    def input(self, leaf: Leaf) -> Ref:
        """Writes down an input of the whole model."""
        return self._call(leaf, ())

    def run(self, block: Block, given: tuple[Ref, ...]) -> tuple[Ref, ...]:
        """The results of a model called on `given`. A nested model that is called twice has its layers called twice."""
        if len(given) != len(block.inputs):
            raise EdgeflowError(
                f"it is called on {len(given)} tensors and takes {len(block.inputs)}", where=block.where
            )
        tensors: dict[Link, Ref] = {(member, 0, 0): ref for member, ref in zip(block.inputs, given, strict=True)}
        for step in block.steps:
            self._left -= 1
            if self._left < 0:
                raise EdgeflowError(f"the model calls its layers more than {MOST_CALLS} times", where=self._where)
            member = block.members[step.member]
            read = tuple(self._tensor(tensors, link) for link in step.inputs)
            results = self.run(member, read) if isinstance(member, Block) else (self._call(member, read),)
            tensors |= {(step.member, step.call, number): ref for number, ref in enumerate(results)}
        return tuple(self._tensor(tensors, link) for link in block.outputs)

    def _tensor(self, tensors: Mapping[Link, Ref], link: Link) -> Ref:
        if link not in tensors:
            raise damaged(self._where, "a connection leads nowhere")
        return tensors[link]

    def _call(self, leaf: Leaf, inputs: tuple[Ref, ...]) -> Ref:
        ref = (leaf.index, self._count[leaf.index])
        self._count[leaf.index] += 1
        self.calls.append(Call(self._layers[leaf.index], ref, inputs))
        return ref


__all__ = ["Call", "Layer", "Model", "Ref", "read_model"]
