"""SOFTMAX, LOGISTIC, TANH, HARD_SWISH, RELU, RELU6, LEAKY_RELU, MAXIMUM and MINIMUM against the wheel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.ops.lut import Lut
from tests.frontends.tflite.make import Making, assert_refused, imported, write
from tests.frontends.tflite.wheel import Values, ask_wheel, assert_equal, differences

Rng = np.random.Generator
KINDS = {"INT8": (-128, 127), "INT16": (-32768, 32767)}
ZEROS = (-128, 127, 0, 5, -77)


def one(
    code: str,
    kind: str,
    source: tuple[float, int],
    target: tuple[float, int],
    *,
    to: str | None = None,
    shape: tuple[int, ...] = (1, 256),
    alpha: float | None = None,
    beta: float | None = None,
) -> TfliteFile:
    """A file of one operator on one input; `source` and `target` are scales and zero points."""
    making = Making(f"{code}_{kind}")
    x = making.input(shape, kind, *source)
    result = making.tensor("result", shape, to or kind, *target)
    if alpha is not None:
        making.operator(code, (x,), (result,), alpha=alpha)
    elif beta is not None:
        making.operator(code, (x,), (result,), beta=beta)
    else:
        making.operator(code, (x,), (result,))
    return making.file()


def scale(rng: Rng, lo: float, hi: float) -> float:
    return float(np.float32(2.0 ** rng.uniform(lo, hi)))


def zero(rng: Rng, kind: str = "INT8") -> int:
    return int(rng.choice(ZEROS)) if kind == "INT8" else 0


def _logistic(rng: Rng) -> TfliteFile:
    return one("LOGISTIC", "INT8", (scale(rng, -8, 6), zero(rng)), (1 / 256, -128))


def _logistic16(rng: Rng) -> TfliteFile:
    near = 2.0 ** int(rng.integers(-14, -9)) * float(rng.choice((1.0, 1.0005, 0.9996, 1.01)))
    unit = near if rng.random() < 0.5 else scale(rng, -16, 2)
    return one("LOGISTIC", "INT16", (unit, 0), (1 / 32768, 0))


def _tanh(rng: Rng) -> TfliteFile:
    return one("TANH", "INT8", (scale(rng, -8, 6), zero(rng)), (1 / 128, 0))


def _tanh16(rng: Rng) -> TfliteFile:
    near = 2.0 ** int(rng.integers(-14, -9)) * float(rng.choice((1.0, 1.0005, 0.9996, 1.01)))
    unit = near if rng.random() < 0.5 else scale(rng, -16, 2)
    return one("TANH", "INT16", (unit, 0), (1 / 32768, 0))


def _hard_swish(rng: Rng) -> TfliteFile:
    unit = scale(rng, -8, 1)
    return one("HARD_SWISH", "INT8", (unit, zero(rng)), (unit * scale(rng, -6, 3), zero(rng)))


def _softmax(rng: Rng) -> TfliteFile:
    shape = ((1, 10), (1, 3, 300), (7,), (1, 2, 2, 33))[rng.integers(4)]
    wide = bool(rng.integers(2))
    target = (1 / 65536, -32768) if wide else (1 / 256, -128)
    source = scale(rng, -8, 2), zero(rng)
    beta = float(rng.choice((1.0, 0.3, 2.5)))
    return one("SOFTMAX", "INT8", source, target, to="INT16" if wide else None, shape=shape, beta=beta)


def _softmax16(rng: Rng) -> TfliteFile:
    shape = ((1, 2), (1, 3, 300), (7,), (1, 2, 2, 33))[rng.integers(4)]
    beta = float(rng.choice((1.0, 0.3, 2.5)))
    return one("SOFTMAX", "INT16", (scale(rng, -20, 0), 0), (1 / 32768, 0), shape=shape, beta=beta)


def _rescaled(code: str, kind: str, rng: Rng) -> TfliteFile:
    unit = scale(rng, -13, -1)
    return one(code, kind, (unit, zero(rng, kind)), (unit * scale(rng, -3, 3), zero(rng, kind)))


def _leaky(kind: str, rng: Rng) -> TfliteFile:
    unit, alpha = scale(rng, -13, -1), float(rng.choice((0.0, 0.1, 0.3, rng.uniform(-1, 2))))
    target = unit * scale(rng, -2, 3)
    return one("LEAKY_RELU", kind, (unit, zero(rng)), (target, zero(rng)), alpha=alpha)


def _limit(rng: Rng) -> TfliteFile:
    """MAXIMUM or MINIMUM with one constant, or one for every channel, on either side."""
    kind = str(rng.choice(list(KINDS)))
    lo, hi = KINDS[kind]
    shape = ((), (1,), (4,), (1, 4), (1, 1, 1, 4), (1, 3, 1, 4))[rng.integers(6)]
    making = Making("limit")
    x = making.input((1, 3, 5, 4), kind, 0.1, 3)
    limit = making.constant(rng.integers(lo, hi + 1, shape), kind, 0.1, 3)
    pair = (x, limit) if rng.integers(2) else (limit, x)
    output = making.tensor("limited", (1, 3, 5, 4), kind, 0.1, 3)
    making.operator(str(rng.choice(("MAXIMUM", "MINIMUM"))), pair, (output,))
    return making.file()


MODELS: Mapping[str, Callable[[Rng], TfliteFile]] = {
    "logistic": _logistic,
    "logistic int16": _logistic16,
    "tanh": _tanh,
    "tanh int16": _tanh16,
    "hard_swish": _hard_swish,
    "softmax": _softmax,
    "softmax int16": _softmax16,
    "relu": lambda rng: _rescaled("RELU", "INT8", rng),
    "relu int16": lambda rng: _rescaled("RELU", "INT16", rng),
    "relu6": lambda rng: _rescaled("RELU6", "INT8", rng),
    "relu6 int16": lambda rng: _rescaled("RELU6", "INT16", rng),
    "leaky_relu": lambda rng: _leaky("INT8", rng),
    "leaky_relu int16": lambda rng: _leaky("INT16", rng),
    "maximum and minimum": _limit,
}


def models(count: int, seed: int) -> list[TfliteFile]:
    """`count` of each kind."""
    return [
        make(np.random.default_rng((seed, at, kind)))
        for at in range(count)
        for kind, make in enumerate(MODELS.values())
    ]


def every_value(file: TfliteFile) -> tuple[Values, ...]:
    """All values of the one input's type, as samples."""
    tensor = file.tensors[file.inputs[0]]
    lo, hi = KINDS[tensor.kind]
    size = int(np.prod(tensor.shape))
    values = np.resize(np.arange(lo, hi + 1), (-(-(hi - lo + 1) // size), *tensor.shape))
    return (values.astype(np.int8 if tensor.kind == "INT8" else np.int16),)


@pytest.mark.usefixtures("wheel")
def test_functions_give_the_bytes_of_tflite_micro() -> None:
    assert_equal(models(2, 1), samples=12)


@pytest.mark.slow
@pytest.mark.usefixtures("wheel")
def test_many_functions_give_the_bytes_of_tflite_micro() -> None:
    assert_equal(models(15, 2), samples=24)


@pytest.mark.usefixtures("wheel")
def test_no_value_of_a_type_differs() -> None:
    files = [file for file in models(1, 3) if "SOFTMAX" not in file.name and file.name != "limit"]
    inputs = [every_value(file) for file in files]
    answers = ask_wheel([write(file) for file in files], inputs, [1] * len(files))
    for file, given, answer in zip(files, inputs, answers, strict=True):
        assert differences(imported(file), given, answer) == 0, file.name


def only_table(file: TfliteFile) -> Lut:
    (node,) = imported(file).nodes
    assert isinstance(node.op, Lut)
    return node.op


def test_curves_are_tables_with_their_functions_name() -> None:
    steep = only_table(one("LOGISTIC", "INT8", (0.1, 0), (1 / 256, -128)))
    assert (steep.function, steep.first, steep.table[[0, 108, 128, 148, 255]].tolist()) == (
        "logistic",
        -128,
        [-128, -97, 0, 97, 127],
    )
    table = only_table(one("TANH", "INT8", (0.1, 10), (1 / 128, 0)))
    assert (table.function, table.table[[0, 128, 138, 148]].tolist()) == ("tanh", [-128, -97, 0, 97])
    assert only_table(one("HARD_SWISH", "INT8", (0.1, 0), (0.1, 0))).function == "hard_swish"
    leaky = only_table(one("LEAKY_RELU", "INT8", (0.1, 0), (0.1, 0), alpha=0.25))
    assert (leaky.function, leaky.table[[0, 124, 130]].tolist()) == ("leaky_relu", [-32, -1, 2])
    assert only_table(one("TANH", "INT16", (2.0**-12, 0), (1 / 32768, 0))).table.size == 65536


def test_a_final_softmax_stays() -> None:
    graph = imported(one("SOFTMAX", "INT8", (0.1, 3), (1 / 256, -128), shape=(1, 10), beta=1.0))
    assert [type(node.op).__name__ for node in graph.nodes] == ["Softmax"]
    assert not graph.outputs[0].logits


def _both_computed() -> TfliteFile:
    making = Making()
    pair = making.input((1, 4)), making.input((1, 4))
    making.add("MAXIMUM", pair, (1, 4))
    return making.file()


AGAIN = "convert the model again with a current converter"
REFUSED = {
    "int16 to int8 softmax": (
        one("SOFTMAX", "INT16", (0.1, 0), (1 / 256, -128), to="INT8", beta=1.0),
        "operator 0 (SOFTMAX): TFLite-Micro does not compute it from INT16 to INT8",
        "give it an int8 input, or int16 on both sides",
    ),
    "int16 softmax scale": (
        one("SOFTMAX", "INT16", (0.1, 0), (1 / 65536, -32768), beta=1.0),
        "operator 0 (SOFTMAX): its output has the scale 1.52588e-05 and the zero point -32768, not 1 / 32768 and 0",
        AGAIN,
    ),
    "steep int16 softmax": (
        one("SOFTMAX", "INT16", (6.0, 0), (1 / 32768, 0), beta=1.0),
        "operator 0 (SOFTMAX): its beta times its input's scale is 6: TFLite-Micro's 32 bits overflow",
        AGAIN,
    ),
    "flat int16 softmax": (
        one("SOFTMAX", "INT16", (0.1, 0), (1 / 32768, 0), beta=1e-14),
        "operator 0 (SOFTMAX): its beta times its input's scale is 1e-15, too little for TFLite-Micro",
        AGAIN,
    ),
    "softmax scale": (
        one("SOFTMAX", "INT8", (0.1, 0), (1 / 128, -128), beta=1.0),
        "operator 0 (SOFTMAX): its output has the scale 0.0078125 and the zero point -128, not 1 / 256 and -128",
        AGAIN,
    ),
    "flat softmax": (
        one("SOFTMAX", "INT8", (1e-9, 0), (1 / 256, -128), beta=1.0),
        "operator 0 (SOFTMAX): its beta times its input's scale is 1e-09, too little for TFLite-Micro",
        AGAIN,
    ),
    "logistic zero point": (
        one("LOGISTIC", "INT8", (0.1, 0), (1 / 256, 0)),
        "operator 0 (LOGISTIC): its output has the scale 0.00390625 and the zero point 0, not 1 / 256 and -128",
        AGAIN,
    ),
    "steep int16": (
        one("TANH", "INT16", (6.0, 0), (1 / 32768, 0)),
        "operator 0 (TANH): its input has the scale 6, with which TFLite-Micro's 32 bits overflow",
        AGAIN,
    ),
    "int16 hard_swish": (
        one("HARD_SWISH", "INT16", (0.1, 0), (0.1, 0)),
        "operator 0 (HARD_SWISH): TFLite-Micro does not compute it from INT16 to INT16",
        AGAIN,
    ),
    "fine hard_swish": (
        one("HARD_SWISH", "INT8", (1.5, 0), (0.001, 0)),
        "operator 0 (HARD_SWISH): its input's scale 1.5 is too large for its output's, 0.001",
        AGAIN,
    ),
    "int16 relu": (
        one("RELU", "INT16", (0.1, 3), (0.1, 0)),
        "operator 0 (RELU): it is int16 with a zero point that is not 0",
        AGAIN,
    ),
    "overflow": (
        one("RELU", "INT16", (1.0, 0), (1e-6, 0)),
        "operator 0 (RELU): it multiplies by 1e+06, with which TFLite-Micro's 32 bits overflow",
        "convert the model again with more calibration data",
    ),
    "two types": (
        one("TANH", "INT8", (0.1, 0), (1 / 128, 0), to="INT16"),
        "operator 0 (TANH): TFLite-Micro does not compute it from INT8 to INT16",
        AGAIN,
    ),
    "two computed": (
        _both_computed(),
        "operator 0 (MAXIMUM): it compares two computed tensors",
        "compare with a constant, or use a ReLU",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_operator_and_the_fix(case: str) -> None:
    file, what, fix = REFUSED[case]
    assert_refused(file, f"{what}\n  fix: {fix}")
