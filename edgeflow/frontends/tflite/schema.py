"""TFLite's schema as numbers: operators, element types, and where the fields of each table lie.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3. A field's slot is its place in its table there; a
union takes two, the number of its type and the table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = 3
IDENTIFIER = b"TFL3"
"""At byte 4 of the file."""

_OPERATORS = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH
SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE
TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK
LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL
FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND
HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE
ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU
DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE
STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
OPERATORS: tuple[str, ...] = tuple(_OPERATORS.split())
"""The builtin operators' names by their numbers."""
CUSTOM = OPERATORS.index("CUSTOM")

TYPES: tuple[str, ...] = (
    *("FLOAT32", "FLOAT16", "INT32", "UINT8", "INT64", "STRING", "BOOL", "INT16", "COMPLEX64", "INT8", "FLOAT64"),
    *("COMPLEX128", "UINT64", "RESOURCE", "VARIANT", "UINT32", "UINT16", "INT4", "BFLOAT16", "INT2", "UINT4"),
    *("FLOAT8_E4M3FN", "FLOAT8_E5M2"),
)
"""The element types' names by their numbers."""
BITS: Mapping[str, int] = {
    **dict.fromkeys(("INT2",), 2),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("BOOL", "INT8", "UINT8", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}
"""Bits of one element, packed without gaps. The other types have no fixed size."""
INTEGERS: Mapping[str, tuple[int, int]] = {
    **{f"INT{bits}": (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (4, 8, 16, 32, 64)},
    **{f"UINT{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32)},
}
"""Least and largest value of the integer types."""


class Model(enum.IntEnum):
    """Slots of the root table."""

    VERSION = 0
    OPERATOR_CODES = 1
    SUBGRAPHS = 2
    BUFFERS = 4
    METADATA = 6
    SIGNATURES = 7


class Code(enum.IntEnum):
    """Slots of an operator code. The first held the number while 127 were enough."""

    SMALL_NUMBER = 0
    CUSTOM_NAME = 1
    VERSION = 2
    NUMBER = 3


class Subgraph(enum.IntEnum):
    """Slots of a subgraph."""

    TENSORS = 0
    INPUTS = 1
    OUTPUTS = 2
    OPERATORS = 3
    NAME = 4


class TensorSlot(enum.IntEnum):
    """Slots of a tensor. The signature is the shape with -1 for an axis without a fixed length."""

    SHAPE = 0
    TYPE = 1
    BUFFER = 2
    NAME = 3
    QUANTIZATION = 4
    VARIABLE = 5
    SPARSITY = 6
    SIGNATURE = 7
    EXTERNAL = 10


class Scales(enum.IntEnum):
    """Slots of a tensor's quantization."""

    SCALE = 2
    ZERO_POINT = 3
    DETAILS_TYPE = 4
    AXIS = 6


class Buffer(enum.IntEnum):
    """Slots of a buffer. `OFFSET` and `SIZE` are for data behind the flatbuffer."""

    DATA = 0
    OFFSET = 1
    SIZE = 2


class OperatorSlot(enum.IntEnum):
    """Slots of an operator."""

    CODE = 0
    INPUTS = 1
    OUTPUTS = 2
    OPTIONS_TYPE = 3
    OPTIONS = 4


class Entry(enum.IntEnum):
    """Slots of a metadata entry (name and buffer), and of a signature's (name and tensor)."""

    NAME = 0
    NUMBER = 1


class Signature(enum.IntEnum):
    """Slots of a signature."""

    INPUTS = 0
    OUTPUTS = 1
    SUBGRAPH = 4


class Kind(enum.Enum):
    """How an option is stored. An ENUM is a byte that numbers the field's `names`."""

    INT = "int32"
    REAL = "float32"
    FLAG = "bool"
    ENUM = "int8"
    LIST = "int32 vector"


@dataclass(frozen=True)
class Field:
    """One option: its name in the schema, and what it is where the file leaves it out. INT: in [least, most]."""

    slot: int
    name: str
    kind: Kind
    default: int | float | bool = 0
    names: tuple[str, ...] = ()
    least: int = -(1 << 31)
    most: int = (1 << 31) - 1

    @property
    def left_out(self) -> int | float | bool | str | tuple[int, ...]:
        """Its value in a file without options."""
        if self.kind is Kind.ENUM:
            return self.names[int(self.default)]
        return () if self.kind is Kind.LIST else self.default


@dataclass(frozen=True)
class Form:
    """How an operator is written: how many inputs and outputs at least and most, its options' type and fields."""

    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    options: int = 0
    fields: tuple[Field, ...] = field(default=())


MANY = 1024
"""Inputs or outputs that one operator may have."""
_LONGEST = 1 << 16
PADDINGS = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
WEIGHT_FORMATS = ("DEFAULT", "SHUFFLED4x16INT8")


def _padding(slot: int) -> Field:
    return Field(slot, "padding", Kind.ENUM, names=PADDINGS)


def _activation(slot: int) -> Field:
    return Field(slot, "fused_activation_function", Kind.ENUM, names=ACTIVATIONS)


def _length(slot: int, name: str, default: int = 0) -> Field:
    """A number of elements to step or to span: what is left out or zero is refused, for it divides."""
    return Field(slot, name, Kind.INT, default, least=1, most=_LONGEST)


def _strides(slot: int) -> tuple[Field, Field]:
    return _length(slot, "stride_w"), _length(slot + 1, "stride_h")


def _dilations(slot: int) -> tuple[Field, Field]:
    return _length(slot, "dilation_w_factor", 1), _length(slot + 1, "dilation_h_factor", 1)


def _bias_type(slot: int) -> Field:
    return Field(slot, "quantized_bias_type", Kind.ENUM, names=TYPES)


def _flags(*names: str, slot: int = 0) -> tuple[Field, ...]:
    return tuple(Field(slot + index, name, Kind.FLAG) for index, name in enumerate(names))


_CONV = (_padding(0), *_strides(1), _activation(3), *_dilations(4), _bias_type(6))
_DEPTHWISE = (
    *(_padding(0), *_strides(1)),
    Field(3, "depth_multiplier", Kind.INT, least=0, most=_LONGEST),
    *(_activation(4), *_dilations(5)),
)
_DENSE = (
    *(_activation(0), Field(1, "weights_format", Kind.ENUM, names=WEIGHT_FORMATS)),
    *_flags("keep_num_dims", "asymmetric_quantize_inputs", slot=2),
    _bias_type(4),
)
_POOL = (
    *(_padding(0), *_strides(1), _length(3, "filter_width"), _length(4, "filter_height")),
    _activation(5),
)
_SUM = (_activation(0), Field(1, "pot_scale_int16", Kind.FLAG, True))
_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
_SLICE = (*(Field(slot, name, Kind.INT) for slot, name in enumerate(_MASKS)), Field(5, "offset", Kind.FLAG))
_REDUCE = _flags("keep_dims")
_RESIZE = ("align_corners", "half_pixel_centers")
_PARTS = Field(0, "num_splits", Kind.INT, least=1, most=MANY)
_AXIS = Field(1, "axis", Kind.INT)

_ONE, _TWO, _THREE = (1, 1), (2, 2), (3, 3)
FORMS: Mapping[str, Form] = {
    "ABS": Form(_ONE),
    "ADD": Form(_TWO, options=11, fields=_SUM),
    "ARG_MAX": Form(_TWO, options=40, fields=(Field(0, "output_type", Kind.ENUM, names=TYPES),)),
    "AVERAGE_POOL_2D": Form(_ONE, options=5, fields=_POOL),
    "CONCATENATION": Form((1, MANY), options=10, fields=(Field(0, "axis", Kind.INT), _activation(1))),
    "CONV_2D": Form((2, 3), options=1, fields=_CONV),
    "DEPTHWISE_CONV_2D": Form((2, 3), options=2, fields=_DEPTHWISE),
    "DEQUANTIZE": Form(_ONE),
    "EXPAND_DIMS": Form(_TWO),
    "FULLY_CONNECTED": Form((2, 3), options=8, fields=_DENSE),
    "HARD_SWISH": Form(_ONE),
    "LEAKY_RELU": Form(_ONE, options=75, fields=(Field(0, "alpha", Kind.REAL, 0.0),)),
    "LOGISTIC": Form(_ONE),
    "MAXIMUM": Form(_TWO),
    "MAX_POOL_2D": Form(_ONE, options=5, fields=_POOL),
    "MEAN": Form(_TWO, options=27, fields=_REDUCE),
    "MINIMUM": Form(_TWO),
    "MUL": Form(_TWO, options=21, fields=(_activation(0),)),
    "PACK": Form((1, MANY), options=59, fields=(Field(0, "values_count", Kind.INT), _AXIS)),
    "PAD": Form(_TWO),
    "PADV2": Form(_THREE),
    "PRELU": Form(_TWO),
    "QUANTIZE": Form(_ONE),
    "RELU": Form(_ONE),
    "RELU6": Form(_ONE),
    "RELU_N1_TO_1": Form(_ONE),
    "RESHAPE": Form((1, 2), options=17, fields=(Field(0, "new_shape", Kind.LIST),)),
    "RESIZE_BILINEAR": Form(_TWO, options=15, fields=_flags(*_RESIZE, slot=2)),
    "RESIZE_NEAREST_NEIGHBOR": Form(_TWO, options=74, fields=_flags(*_RESIZE)),
    "SLICE": Form(_THREE),
    "SOFTMAX": Form(_ONE, options=9, fields=(Field(0, "beta", Kind.REAL, 0.0),)),
    "SPLIT": Form(_TWO, (1, MANY), options=35, fields=(_PARTS,)),
    "SPLIT_V": Form(_THREE, (1, MANY), options=79, fields=(_PARTS,)),
    "SQUEEZE": Form(_ONE, options=30, fields=(Field(0, "squeeze_dims", Kind.LIST),)),
    "STRIDED_SLICE": Form((4, 4), options=32, fields=_SLICE),
    "SUB": Form(_TWO, options=28, fields=_SUM),
    "SUM": Form(_TWO, options=27, fields=_REDUCE),
    "TANH": Form(_ONE),
    "TRANSPOSE": Form(_TWO),
    "TRANSPOSE_CONV": Form((3, 4), options=49, fields=(_padding(0), *_strides(1), _activation(3), _bias_type(4))),
    "UNPACK": Form(_ONE, (1, MANY), options=64, fields=(Field(0, "num", Kind.INT), _AXIS)),
}
"""The operators whose form is checked. Options of others are not read."""
