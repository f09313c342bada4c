"""Layer calls: the plain list that every file form becomes, nested models included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.fields import Fields

Ref = tuple[int, int]
"""A layer's index and which of its calls: names one tensor."""

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Layer:
    """One layer: its Keras name, class (`module.Class` when foreign), place, configuration, weights.

    Inside a nested model the name is "outer/inner". `index` counts layers from 0. `weights` has the names that the
    file gives: "0", "1" from a `.keras` file ("batchnorm/0" for those of a part of the layer), "kernel", "bias"
    from an `.h5` file.
    """

    name: str
    kind: str
    index: int
    fields: Fields
    weights: Mapping[str, Float32Array]

    @property
    def where(self) -> str:
        """How an error names the layer."""
        return self.fields.where


@dataclass(frozen=True)
class Call:
    """One use of a layer on the results of other calls."""

    layer: Layer
    ref: Ref
    inputs: tuple[Ref, ...]


@dataclass(frozen=True)
class Model:
    """Calls in an order in which each comes after those that it reads.

    `output_names` are the names of the model's own layers that give `outputs`, as Keras names its outputs: for a
    nested model its name, not that of its last layer.
    """

    name: str
    calls: tuple[Call, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    output_names: tuple[str, ...]


def clean_name(name: str) -> str:
    """A name from a file as valid Unicode of bounded length."""
    return name.encode(errors="replace").decode()[:_LONGEST_NAME]
