from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray
from edgeflow.ops.softmax import EXPONENTIAL_TABLE, RECIPROCAL_TABLE, Softmax


def softmax(scale: float, bits: int = 8) -> Softmax:
    """The parameters that TFLite-Micro derives from an input's scale (PreprocessSoftmaxScaling, quantization_util.cc).

    The real multiplier is at most 2**31 - 1; the least difference is -31 after its shift.
    """
    fraction, shift = math.frexp(min(float(np.float32(scale)) * 2.0**26, 2.0**31 - 1))
    multiplier = round(fraction * 2.0**31)
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    return Softmax(multiplier, shift, -((31 << 26) >> shift), bits)


def softmax16(scale: float) -> Softmax:
    """The same for int16: a step of a difference is 10 / 65535 (CalculateSoftmaxParams, softmax_common.cc)."""
    fraction, shift = math.frexp(float(np.float32(scale)) / (10.0 / 65535.0))
    return Softmax(round(fraction * 2.0**31), shift, 0, 15)


def run(op: Softmax, values: list[int]) -> list[int]:
    return op.evaluate((np.array([values]),), ())[0].tolist()


def test_by_hand() -> None:
    assert run(softmax(1 / 16), [0, 0]) == [0, 0], "one half each"
    assert run(softmax(1 / 16), [5]) == [127], "1 does not fit and saturates"
    assert run(softmax(1.0), [3, 2, 1]) == [42, -65, -105], "0.665, 0.245, 0.090 of 256"
    assert run(softmax(1.0, 16), [3, 2, 1]) == [10829, -16729, -26868]
    assert run(softmax(100.0), [1, 0, -128]) == [127, -128, -128], "a scale of 32 or more leaves the largest alone"


def test_int16_by_hand() -> None:
    assert run(softmax16(1 / 16), [0, 0]) == [16384, 16384]
    assert run(softmax16(1 / 16), [5]) == [32767], "1 does not fit and saturates"
    assert run(softmax16(1.0), [3, 2, 1]) == [21798, 8020, 2950], "0.665, 0.245, 0.090 of 32768"
    assert run(softmax16(1.0), [0, -10, -30000]) == [32764, 2, 2], "nothing is less than exp(-10)"
    assert run(softmax16(10 / 65535), [0, -65535]) == [32766, 2]


def test_the_tables_are_those_of_tflite_micro() -> None:
    assert EXPONENTIAL_TABLE[[0, 1, 256, 511, 512]].tolist() == [2, 2, 221, 32133, 32767]
    assert RECIPROCAL_TABLE[[0, 1, 256, 511, 512]].tolist() == [32767, 32704, 21845, 16400, 16384]
    contents = (one.astype("<i2").tobytes() for one in (EXPONENTIAL_TABLE, RECIPROCAL_TABLE))
    digests = [hashlib.sha256(one).hexdigest()[:16] for one in contents]
    assert digests == ["1f064505e52b5558", "36dabd62f9189220"], "found with the wheel, bit for bit"


def test_it_is_the_real_softmax_to_a_unit() -> None:
    rng = np.random.default_rng(2)
    for scale in (1 / 256, 1 / 16, 0.3, 2.0):
        x = rng.integers(-128, 128, (200, 12))
        exact = np.exp((x - x.max(axis=-1, keepdims=True)) * scale)
        exact /= exact.sum(axis=-1, keepdims=True)
        for bits, off in ((8, 0.51), (16, 2.0)):
            wanted = np.minimum(exact * 2.0**bits, 2.0**bits - 1) - 2.0 ** (bits - 1)
            assert np.abs(softmax(scale, bits).evaluate((x,), ()) - wanted).max() < off
        wanted = np.minimum(exact * 2.0**15, 2.0**15 - 1)
        assert np.abs(softmax16(scale).evaluate((x,), ()) - wanted).max() < 23, "exp(-10) is 2 units"


def test_exponentials_fall_from_just_below_one_to_nothing() -> None:
    op = softmax(0.5)
    falling = op.exponentials(np.arange(0, op.diff_min - 2, -1))
    assert falling[0] == (1 << 31) - 1
    assert (np.diff(falling) <= 0).all()
    assert falling[-1] == 0
    assert op.diff_min == -31, "less than exp(-15.5) is nothing"
    exact = np.exp(-0.5 * np.arange(20)) * 2.0**31
    np.testing.assert_allclose(falling[:20], exact, rtol=2e-6)


@given(seed=st.integers(0, 1 << 30), scale=st.floats(0.001, 40), bits=st.sampled_from((8, 16)), rank=st.integers(1, 3))
def test_bounds_hold(sound: Callable[..., None], seed: int, scale: float, bits: int, rank: int) -> None:
    sound(softmax(scale, bits), ((2, 3, 4)[-rank:],), seed)


@given(seed=st.integers(0, 1 << 30), scale=st.floats(1e-6, 1), rank=st.integers(1, 3))
def test_bounds_hold_with_15_bits(sound: Callable[..., None], seed: int, scale: float, rank: int) -> None:
    sound(softmax16(scale), ((2, 3, 4)[-rank:],), seed)


def test_the_most_channels_do_not_overflow() -> None:
    x = np.zeros((1, 4095), dtype=np.int64)
    assert set(softmax(0.1).evaluate((x,), ())[0].tolist()) == {-128}
    assert set(softmax(0.1, 16).evaluate((x,), ())[0].tolist()) == {-32752}, "65536 / 4095 = 16"
    assert set(softmax16(0.1).evaluate((x,), ())[0].tolist()) == {8}


@pytest.mark.parametrize(
    ("op", "shape", "text"),
    [
        (softmax(1.0), (), "a tensor without axes has no channels"),
        (softmax(1.0), (2, 4096), "a softmax of 4096 channels, more than 4095"),
        (Softmax(1 << 30, 20, -9, 9), (2,), "a softmax of 9 bits, not 8, 15 or 16"),
        (Softmax(1 << 31, 20, -9, 8), (2,), "a softmax needs 2^30 <= multiplier < 2^31 and 0 <= shift <= 31"),
        (Softmax(1 << 29, 20, -9, 8), (2,), "a softmax needs 2^30 <= multiplier < 2^31 and 0 <= shift <= 31"),
        (Softmax(1 << 30, 32, 0, 8), (2,), "a softmax needs 2^30 <= multiplier < 2^31 and 0 <= shift <= 31"),
        (Softmax(1 << 30, 20, 1, 8), (2,), "a least difference of 1 is not 0 to -31 after its shift"),
        (Softmax(1 << 30, 26, -32, 8), (2,), "a least difference of -32 is not 0 to -31 after its shift"),
        (
            Softmax(1 << 31, 0, 0, 15),
            (2,),
            "a softmax needs 2^30 <= multiplier < 2^31 and -31 <= shift <= 31",
        ),
        (
            Softmax(1 << 30, -32, 0, 15),
            (2,),
            "a softmax needs 2^30 <= multiplier < 2^31 and -31 <= shift <= 31",
        ),
        (Softmax(1 << 30, 0, -1, 15), (2,), "a softmax of 15 bits has a least difference of 0, not -1"),
    ],
)
def test_refusals(op: Softmax, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        op.shape((shape,))
    assert str(caught.value) == text


def test_differences_beyond_62_bits_are_refused() -> None:
    wide = Bounds(np.array([-(1 << 61)]), np.array([1 << 61]))
    with pytest.raises(InvalidGraph, match="a difference could leave 62 bits"):
        softmax(1.0).bounds((wide,), ((4,),))


def test_differences_that_leave_32_bits_are_refused_with_15_bits() -> None:
    op, most = Softmax(1 << 30, 15, 0, 15), (1 << 16) - 1
    assert op.bounds((Bounds(np.array([0]), np.array([most])),), ((4,),)).hi.max() == 32767
    with pytest.raises(InvalidGraph, match="a difference could leave 32 bits after its shift"):
        op.bounds((Bounds(np.array([0]), np.array([most + 1])),), ((4,),))


def softmax_file(fb: Any, shape: tuple[int, int], scale: float, bits: int) -> bytes:
    """A TFLite model of one SOFTMAX: int8 in, int8 or int16 out."""
    import flatbuffers  # pyright: ignore[reportMissingTypeStubs]

    def tensor(name: str, kind: int, unit: float, zero: int) -> Any:
        one, how = fb.TensorT(), fb.QuantizationParametersT()
        how.scale, how.zeroPoint = np.array([unit], dtype=np.float32), np.array([zero], dtype=np.int64)
        one.name, one.type, one.quantization, one.buffer = name, kind, how, 0
        one.shape = np.array(shape, dtype=np.int32)
        return one

    model, graph, code, node = fb.ModelT(), fb.SubGraphT(), fb.OperatorCodeT(), fb.OperatorT()
    result = fb.TensorType.INT8 if bits == 8 else fb.TensorType.INT16
    graph.tensors = [
        tensor("x", fb.TensorType.INT8, scale, 3),
        tensor("y", result, 2.0**-bits, -(1 << (bits - 1))),
    ]
    code.builtinCode = code.deprecatedBuiltinCode = fb.BuiltinOperator.SOFTMAX
    code.version = 2
    node.opcodeIndex, node.builtinOptionsType = 0, fb.BuiltinOptions.SoftmaxOptions
    node.builtinOptions = fb.SoftmaxOptionsT()
    node.builtinOptions.beta = 1.0
    node.inputs, node.outputs = np.array([0], dtype=np.int32), np.array([1], dtype=np.int32)
    graph.inputs, graph.outputs, graph.operators, graph.name = node.inputs, node.outputs, [node], "softmax"
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [fb.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def rows_of(channels: int, rows: int, seed: int) -> IntArray:
    """int8 vectors: random ones, wide and narrow, and every kind of extreme."""
    rng = np.random.default_rng(seed)
    width = rng.integers(0, 128, (rows, 1))
    x = np.clip(rng.integers(-128, 128, (rows, 1)) + rng.integers(-width, width + 1, (rows, channels)), -128, 127)
    x[0], x[1], x[2] = -128, 127, -128
    x[2, 0] = 127
    x[3:6] = np.where(rng.random((3, channels)) < 0.5, -128, 127)
    x[6] = np.arange(channels) % 256 - 128
    return x


SCALES = (1 / 256, 0.0078, 1 / 16, 0.1236, 0.25, 1.0, 3.1, 33.0)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("scale", SCALES)
def test_it_gives_the_bytes_of_tflite_micro(scale: float, bits: int) -> None:
    if importlib.util.find_spec("tflite_micro") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("tflite-micro is not installed, and in CI every tool must be", pytrace=False)
        pytest.skip("tflite-micro is not installed")
    runtime: Any = importlib.import_module("tflite_micro").runtime
    fb = importlib.import_module("tflite_micro.tensorflow.lite.micro.python.schema_py_generated")
    for channels in (1, 2, 10, 300):
        x = rows_of(channels, 64, channels)
        interpreter = runtime.Interpreter.from_bytes(softmax_file(fb, x.shape, scale, bits), arena_size=1 << 18)
        interpreter.set_input(x.astype(np.int8), 0)
        interpreter.invoke()
        np.testing.assert_array_equal(interpreter.get_output(0), softmax(scale, bits).evaluate((x,), ()))
