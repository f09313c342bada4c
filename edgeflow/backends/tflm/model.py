"""A TFLite model as data: tensors, operators and their options. What the flatbuffer says, before it is one."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from edgeflow.ir.types import Shape


class TensorKind(enum.Enum):
    """A tensor's element type: its name in TFLite's schema."""

    INT4 = "INT4"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return int(self.value.removeprefix("INT"))

    @property
    def size(self) -> int:
        """Bytes of an element that takes whole ones."""
        return self.bits // 8


class Activation(enum.Enum):
    """A fused activation: its name in TFLite's schema."""

    NONE = "NONE"
    RELU = "RELU"
    RELU6 = "RELU6"
    RELU_N1_TO_1 = "RELU_N1_TO_1"


class Kernel(enum.Enum):
    """A TFLite operator: its name in the schema. `method` adds it to a MicroMutableOpResolver."""

    CONV_2D = "CONV_2D"
    DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
    FULLY_CONNECTED = "FULLY_CONNECTED"
    AVERAGE_POOL_2D = "AVERAGE_POOL_2D"
    MAX_POOL_2D = "MAX_POOL_2D"
    RESHAPE = "RESHAPE"
    PAD = "PAD"
    PADV2 = "PADV2"
    MAXIMUM = "MAXIMUM"
    MINIMUM = "MINIMUM"
    ADD = "ADD"
    SUB = "SUB"
    MUL = "MUL"
    CONCATENATION = "CONCATENATION"
    TRANSPOSE = "TRANSPOSE"
    STRIDED_SLICE = "STRIDED_SLICE"
    RESIZE_NEAREST_NEIGHBOR = "RESIZE_NEAREST_NEIGHBOR"
    TRANSPOSE_CONV = "TRANSPOSE_CONV"
    QUANTIZE = "QUANTIZE"
    SOFTMAX = "SOFTMAX"
    LOGISTIC = "LOGISTIC"
    TANH = "TANH"
    GATHER = "GATHER"

    @property
    def method(self) -> str:
        """The resolver's method."""
        return _METHODS[self]


_METHODS = {
    Kernel.CONV_2D: "AddConv2D",
    Kernel.DEPTHWISE_CONV_2D: "AddDepthwiseConv2D",
    Kernel.FULLY_CONNECTED: "AddFullyConnected",
    Kernel.AVERAGE_POOL_2D: "AddAveragePool2D",
    Kernel.MAX_POOL_2D: "AddMaxPool2D",
    Kernel.RESHAPE: "AddReshape",
    Kernel.PAD: "AddPad",
    Kernel.PADV2: "AddPadV2",
    Kernel.MAXIMUM: "AddMaximum",
    Kernel.MINIMUM: "AddMinimum",
    Kernel.ADD: "AddAdd",
    Kernel.SUB: "AddSub",
    Kernel.MUL: "AddMul",
    Kernel.CONCATENATION: "AddConcatenation",
    Kernel.TRANSPOSE: "AddTranspose",
    Kernel.STRIDED_SLICE: "AddStridedSlice",
    Kernel.RESIZE_NEAREST_NEIGHBOR: "AddResizeNearestNeighbor",
    Kernel.TRANSPOSE_CONV: "AddTransposeConv",
    Kernel.QUANTIZE: "AddQuantize",
    Kernel.SOFTMAX: "AddSoftmax",
    Kernel.LOGISTIC: "AddLogistic",
    Kernel.TANH: "AddTanh",
    Kernel.GATHER: "AddGather",
}


@dataclass(frozen=True)
class Quantization:
    """real = scale * (byte - zero_point); several scales stand along `axis`."""

    scales: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """`data` are the little-endian bytes of a constant; None for what is computed or given."""

    name: str
    shape: Shape
    kind: TensorKind
    quantization: Quantization | None = None
    data: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return -(-math.prod(self.shape) * self.kind.bits // 8)


@dataclass(frozen=True)
class ConvOptions:
    """Options of CONV_2D and DEPTHWISE_CONV_2D; pairs are (vertical, horizontal). `multiplier` is for the latter."""

    same: bool
    strides: tuple[int, int]
    dilation: tuple[int, int]
    activation: Activation
    multiplier: int = 0


@dataclass(frozen=True)
class PoolOptions:
    """Options of the pools."""

    same: bool
    strides: tuple[int, int]
    window: tuple[int, int]
    activation: Activation


@dataclass(frozen=True)
class DenseOptions:
    """Options of FULLY_CONNECTED."""

    activation: Activation
    keep_axes: bool


@dataclass(frozen=True)
class ReshapeOptions:
    """Options of RESHAPE."""

    shape: Shape


@dataclass(frozen=True)
class JoinOptions:
    """Options of ADD, SUB and MUL."""

    activation: Activation


@dataclass(frozen=True)
class AxisOptions:
    """Options of CONCATENATION and GATHER."""

    axis: int


@dataclass(frozen=True)
class ResizeOptions:
    """Options of RESIZE_NEAREST_NEIGHBOR."""

    half_pixel_centers: bool


@dataclass(frozen=True)
class TransposeConvOptions:
    """Options of TRANSPOSE_CONV; strides are (vertical, horizontal)."""

    same: bool
    strides: tuple[int, int]


@dataclass(frozen=True)
class SoftmaxOptions:
    """Options of SOFTMAX; beta is a float32 number."""

    beta: float


@dataclass(frozen=True)
class NoOptions:
    """For operators whose schema table has no field, or only fields whose defaults are meant."""


Options = (
    ConvOptions
    | PoolOptions
    | DenseOptions
    | ReshapeOptions
    | JoinOptions
    | AxisOptions
    | ResizeOptions
    | TransposeConvOptions
    | SoftmaxOptions
    | NoOptions
)


@dataclass(frozen=True)
class Operator:
    """One operator; `inputs` and `output` number the model's tensors. `macs` are its multiply-accumulates."""

    kernel: Kernel
    version: int
    inputs: tuple[int, ...]
    output: int
    options: Options
    layer: str
    macs: int = 0


@dataclass(frozen=True)
class TfliteModel:
    """The whole file: one subgraph. `inputs` and `outputs` number tensors, in the graph's order."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kinds of operators, each once, in the order of first use."""
        return tuple(dict.fromkeys(one.kernel for one in self.operators))

    def constants(self, operator: Operator) -> int:
        """Bytes of the constants that an operator reads."""
        return sum(self.tensors[index].size for index in operator.inputs if self.tensors[index].data is not None)
