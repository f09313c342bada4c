"""Random `.tflite` models of one operator each, with every parameter that TFLite-Micro takes; one seed, one model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.ir.types import IntArray, Shape
from tests.frontends.tflite.make import Making

Rng = np.random.Generator
FloatArray = npt.NDArray[np.float64]
Option = int | bool | str
Generator = Callable[[Rng], TfliteFile]
T = TypeVar("T")

ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU_N1_TO_1", "RELU6")
REACH = {"INT8": 127, "INT16": 32767, "INT4": 7}


def pick(rng: Rng, *choices: T) -> T:
    """One of the choices."""
    return choices[int(rng.integers(len(choices)))]


def scale(rng: Rng, around: float = 0.05) -> float:
    """A float32 scale; now and then a power of two."""
    value = float(np.float32(around * 2.0 ** rng.uniform(-2, 2)))
    return value if rng.random() < 0.8 else 2.0 ** round(math.log2(value))


def zero(rng: Rng, kind: str) -> int:
    """A zero point: for int16 it is 0."""
    return 0 if kind == "INT16" else pick(rng, 0, -128, 127, int(rng.integers(-128, 128)))


def weights(rng: Rng, kind: str, shape: tuple[int, ...]) -> IntArray:
    """Weights that now and then lie all on an end of their range."""
    reach = REACH[kind]
    values = rng.integers(-reach - 1, reach + 1, shape)
    return np.where(rng.random(shape) < 0.5, -reach - 1, reach) if rng.random() < 0.1 else values


def biases(rng: Rng, factors: FloatArray, kind: str) -> IntArray:
    """Biases that without a sum put the result on a tie, or beside one."""
    steps = rng.integers(-REACH[kind], REACH[kind], len(factors)) + 0.5
    values = np.rint(steps / factors) + rng.integers(-2, 3, len(factors))
    return np.clip(values, -(1 << 29), 1 << 29).astype(np.int64)


def linear(rng: Rng, made: Making, code: str, values: IntArray, shape: Shape, options: dict[str, Option]) -> TfliteFile:
    """A CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED of the first tensor with these weights."""
    source, axis = made.tensors[0], 3 if code == "DEPTHWISE_CONV_2D" else 0
    assert source.quantization is not None
    outputs, given = values.shape[axis], source.quantization.scales[0]
    count = outputs if rng.random() < 0.7 else 1
    scales = np.array([np.float32(scale(rng, 0.01)) for _ in range(count)], dtype=np.float64)
    reach = max(int(np.abs(values).max()), 1)
    sums = math.sqrt(values.size / outputs) * reach * REACH[source.kind] * rng.choice([0.2, 0.5, 2.0])
    result = scale(rng, given * float(scales.mean()) * sums / REACH[source.kind])
    narrow = source.kind == "INT8" and values.min() >= -8 and values.max() <= 7 and rng.random() < 0.8
    count = 1 if narrow and code == "FULLY_CONNECTED" else count
    scales = scales[:count]
    weight = made.constant(values, "INT4" if narrow else "INT8", list(scales), axis=axis if count > 1 else 0)
    inputs = [0, weight]
    if rng.random() < 0.8:
        wide = ("INT64",) if code == "DEPTHWISE_CONV_2D" else ("INT64", "INT32")
        kind = "INT32" if source.kind == "INT8" else pick(rng, *wide)
        factors = np.broadcast_to(given * scales / result, (outputs,))
        units = list(np.broadcast_to(given * scales, (count,)))
        inputs.append(made.constant(biases(rng, factors, source.kind), kind, units))
    elif rng.random() < 0.5 and code != "DEPTHWISE_CONV_2D":
        inputs.append(-1)
    activation = pick(rng, *ACTIVATIONS)
    made.add(
        code, inputs, shape, result, zero(rng, source.kind), fused_activation_function=activation, settings=options
    )
    return made.file()


def image(rng: Rng, code: str, channels: int) -> tuple[Making, str]:
    """A model with one image as its input, and the image's type."""
    kind = pick(rng, "INT8", "INT8", "INT16")
    made = Making(code.lower())
    made.input((1, pick(rng, 1, 3, 5, 8), pick(rng, 1, 4, 7), channels), kind, scale(rng), zero(rng, kind))
    return made, kind


def window(rng: Rng, spatial: Shape, dilated: bool) -> tuple[Shape, Shape, dict[str, Option]]:
    """A window's size, the shape of its results, and the options; one that fits where nothing is padded."""
    padding = pick(rng, "SAME", "VALID")
    strides = pick(rng, 1, 1, 2, 3), pick(rng, 1, 1, 2)
    rates = (pick(rng, 1, 1, 2, 3), pick(rng, 1, 1, 2)) if dilated else (1, 1)
    size = tuple(pick(rng, 1, 2, 3, 5) for _ in spatial)
    reach = [(length - 1) * rate + 1 for length, rate in zip(size, rates, strict=True)]
    if padding == "VALID":
        size = tuple(s if r <= n else 1 for s, r, n in zip(size, reach, spatial, strict=True))
        reach = [r if r <= n else 1 for r, n in zip(reach, spatial, strict=True)]
        out = tuple((n - r) // s + 1 for n, r, s in zip(spatial, reach, strides, strict=True))
    else:
        out = tuple(-(-n // s) for n, s in zip(spatial, strides, strict=True))
    options: dict[str, Option] = {"padding": padding, "stride_h": strides[0], "stride_w": strides[1]}
    if dilated:
        options |= {"dilation_h_factor": rates[0], "dilation_w_factor": rates[1]}
    return size, out, options


def conv(rng: Rng) -> TfliteFile:
    """CONV_2D: any padding, stride and dilation; grouped now and then; int8 and int4 weights."""
    groups, each = pick(rng, 1, 1, 1, 2, 3), pick(rng, 1, 2, 3, 5)
    made, _ = image(rng, "CONV_2D", groups * each)
    size, out, options = window(rng, made.tensors[0].shape[1:3], dilated=True)
    outputs = groups * pick(rng, 1, 2, 4)
    values = weights(rng, pick(rng, "INT8", "INT8", "INT4"), (outputs, *size, each))
    return linear(rng, made, "CONV_2D", values, (1, *out, outputs), options)


def depthwise(rng: Rng) -> TfliteFile:
    """DEPTHWISE_CONV_2D, as `conv`, with several outputs a channel."""
    channels, each = pick(rng, 1, 2, 3, 5), pick(rng, 1, 1, 2, 3)
    made, _ = image(rng, "DEPTHWISE_CONV_2D", channels)
    size, out, options = window(rng, made.tensors[0].shape[1:3], dilated=True)
    values = weights(rng, pick(rng, "INT8", "INT8", "INT4"), (1, *size, channels * each))
    options["depth_multiplier"] = each
    return linear(rng, made, "DEPTHWISE_CONV_2D", values, (1, *out, channels * each), options)


def dense(rng: Rng) -> TfliteFile:
    """FULLY_CONNECTED on one row or more, of inputs with any number of axes."""
    kind = pick(rng, "INT8", "INT8", "INT16")
    length, units = pick(rng, 1, 6, 12, 40), pick(rng, 1, 3, 8)
    rows = pick(rng, (), (), (1,), (3,), (2, 3))
    split = pick(rng, (length,), (length,), (length // 2, 2) if length % 2 == 0 else (length, 1))
    kept = bool(rng.random() < 0.5) and split == (length,)
    made = Making("fully_connected")
    made.input((1, *rows, *split), kind, scale(rng), zero(rng, kind))
    shape = (1, *rows, units) if kept else (math.prod(rows), units)
    values = weights(rng, pick(rng, "INT8", "INT8", "INT4"), (units, length))
    return linear(rng, made, "FULLY_CONNECTED", values, shape, {"keep_num_dims": kept})


def elementwise(code: str, rng: Rng) -> TfliteFile:
    """ADD, SUB or MUL: two inputs, or one and a constant; the same one twice; either broadcasts."""
    kind, made = pick(rng, "INT8", "INT8", "INT16"), Making(code.lower())
    shape = pick(rng, (1, 7), (1, 3, 5), (1, 4, 3, 5))
    other = tuple(pick(rng, 1, axis) for axis in shape) if rng.random() < 0.5 else shape
    mine = tuple(pick(rng, 1, axis) for axis in shape) if rng.random() < 0.2 else shape
    inputs = [made.input(mine, kind, scale(rng), zero(rng, kind))]
    form = rng.random()
    if form < 0.4:
        other = other[int(rng.integers(len(other))) :] if rng.random() < 0.4 else other
        values = rng.integers(-REACH[kind] - 1, REACH[kind] + 1, other)
        inputs.append(made.constant(values, kind, scale(rng), zero(rng, kind)))
    elif form < 0.9:
        inputs.append(made.input(other, kind, scale(rng), zero(rng, kind)))
    else:
        inputs, other = [0, 0], mine
    order = inputs if rng.random() < 0.5 else inputs[::-1]
    result = np.broadcast_shapes(mine, other)
    around = 0.05 * REACH[kind] / 8 if code == "MUL" and rng.random() < 0.5 else 0.1
    options: dict[str, Option] = {"fused_activation_function": pick(rng, *ACTIVATIONS)}
    if code != "MUL":
        options["pot_scale_int16"] = bool(rng.random() < 0.5)
    made.add(code, order, result, scale(rng, around), zero(rng, kind), settings=options)
    return made.file()


def pool(code: str, rng: Rng) -> TfliteFile:
    """AVERAGE_POOL_2D or MAX_POOL_2D."""
    made, _ = image(rng, code, pick(rng, 1, 3, 4))
    shape = made.tensors[0].shape
    size, out, options = window(rng, shape[1:3], dilated=False)
    options |= {"filter_height": size[0], "filter_width": size[1]}
    made.add(code, (0,), (1, *out, shape[3]), fused_activation_function=pick(rng, *ACTIVATIONS), settings=options)
    return made.file()


def mean(rng: Rng) -> TfliteFile:
    """MEAN over any axes."""
    kind, made = pick(rng, "INT8", "INT16"), Making("mean")
    shape = (1, *pick(rng, (9,), (5, 3), (4, 3, 5), (7, 7, 2)))
    made.input(shape, kind, scale(rng), zero(rng, kind))
    axes = [axis for axis in range(1, len(shape)) if rng.random() < 0.5] or [len(shape) - 1]
    axes += [0] if rng.random() < 0.1 else []
    kept = bool(rng.random() < 0.5) or 0 in axes
    result = [1 if axis in axes else length for axis, length in enumerate(shape) if kept or axis not in axes]
    given = [axis - len(shape) if rng.random() < 0.3 else axis for axis in axes]
    inputs = (0, made.constant(rng.permutation(np.array(given)), "INT32"))
    if rng.random() < 0.4:
        made.add("MEAN", inputs, result, keep_dims=kept)
    else:
        made.add("MEAN", inputs, result, scale(rng), zero(rng, kind), keep_dims=kept)
    return made.file()


def view(rng: Rng) -> TfliteFile:
    """RESHAPE (a constant shape, -1 in it, or an option), SQUEEZE and EXPAND_DIMS."""
    kind, made = pick(rng, "INT8", "INT16"), Making("views")
    made.input((1, 4, 1, 6), kind, scale(rng), zero(rng, kind))
    form = int(rng.integers(5))
    if form == 0:
        made.add("RESHAPE", (0, made.constant([1, -1], "INT32")), (1, 24), new_shape=(1, -1))
    elif form == 1:
        made.add("RESHAPE", (0,), (1, 8, 3), new_shape=(1, 8, 3))
    elif form == 2:
        made.add("RESHAPE", (0, made.constant([1, 2, 3, 4], "INT32")), (1, 2, 3, 4))
    elif form == 3:
        made.add("SQUEEZE", (0,), (1, 4, 6), squeeze_dims=(2,))
    else:
        made.add("EXPAND_DIMS", (0, made.constant([1], "INT32")), (1, 1, 4, 1, 6))
    shape = made.tensors[-1].shape
    made.add("ADD", (len(made.tensors) - 1, len(made.tensors) - 1), shape, 0.2)
    return made.file()


GENERATORS: Mapping[str, Generator] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": dense,
    "ADD": partial(elementwise, "ADD"),
    "SUB": partial(elementwise, "SUB"),
    "MUL": partial(elementwise, "MUL"),
    "AVERAGE_POOL_2D": partial(pool, "AVERAGE_POOL_2D"),
    "MAX_POOL_2D": partial(pool, "MAX_POOL_2D"),
    "MEAN": mean,
    "RESHAPE": view,
}


def models(code: str, count: int, first: int = 0) -> list[TfliteFile]:
    """So many models of one operator."""
    return [GENERATORS[code](np.random.default_rng(seed)) for seed in range(first, first + count)]
