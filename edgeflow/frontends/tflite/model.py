"""A `.tflite` file as data: what its flatbuffer says, checked for size and reference, not yet for meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeflow.ir.types import Shape


@dataclass(frozen=True)
class Quantization:
    """real = scale * (integer - zero_point); several stand along `axis`. Scales are float32 values as floats."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """`kind` is the schema's name of the element type ("INT8"). `shape` has the batch axis, and 1 where it is dynamic.

    `dynamic`: axes whose size the file leaves open. `data` are a constant's little-endian bytes; None for what is
    given or computed.
    """

    index: int
    name: str
    shape: Shape
    kind: str
    quantization: Quantization | None = None
    data: bytes | None = None
    dynamic: tuple[int, ...] = ()
    variable: bool = False
    sparse: bool = False


@dataclass(frozen=True)
class Operator:
    """One operator. `code` is the schema's name ("CONV_2D"), or a custom operator's own with `custom` set.

    `inputs` and `outputs` number the model's tensors; -1 is an optional input that is left out. `options` has every
    field of the operator's option table by its name in the schema, defaults filled in; an enumeration's value is its
    name in the schema ("SAME", "RELU6").
    """

    index: int
    code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int | float | bool | str | tuple[int, ...]] = field(default_factory=dict[str, int])
    custom: bool = False


@dataclass(frozen=True)
class TfliteFile:
    """The whole file: its one subgraph. `metadata` are the names and bytes of the metadata buffers.

    `names` are the signature's names of inputs and outputs by tensor number, where there is one.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names: Mapping[int, str] = field(default_factory=dict[int, str])
    metadata: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
