"""Batch normalization folded into its layer: the integers by hand, ties that float32 decides, a float bias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends import load_model
from edgeflow.ir.graph import Meaning
from edgeflow.ir.types import Dyadic
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from tests.frontends.qkeras.against import (
    act,
    assert_equal,
    bits,
    differences,
    inputs_for,
    q,
)

VECTORS = ("gamma", "beta", "moving_mean", "moving_variance")


def model_of(layer: Any, size: tuple[int, ...], values: dict[str, Any], *behind: Any) -> Any:
    """A model of one folded layer whose weights are `values` by name; those not named stay as Keras makes them."""
    import keras

    source = keras.Input(size, name="x")
    x = layer(act(bits(8, 3))(source))
    for one in behind:
        x = one(x)
    for weight in layer.weights:
        name = weight.path.rpartition("/")[2]
        if name in values:
            weight.assign(np.array(values[name], dtype=np.float32).reshape(weight.shape))
    return keras.Model(source, x)


def test_the_folded_kernel_and_bias_by_hand(tmp_path: Path) -> None:
    layer = q(
        "QDenseBatchnorm",
        2,
        epsilon=0.0,
        kernel_quantizer=bits(6, 1),
        bias_quantizer=bits(8, 3),
    )
    values = {
        "kernel": [[0.5, 0.25]],
        "bias": [1, 0],
        "gamma": [3, -1],
        "beta": [0.5, 0.25],
        "moving_mean": [0.5, 1],
        "moving_variance": [4, 0.25],
    }
    path = tmp_path / "model.keras"
    model_of(layer, (1,), values).save(path)
    (node,) = load_model(path).nodes
    assert isinstance(node.op, Dense)
    # inv = 1.5 and -2: kernel 0.75 and -0.5 of 1/16; bias 1.5 * 0.5 + 0.5 = 1.25 and -2 * -1 + 0.25 = 2.25
    assert (node.op.weight.tolist(), node.label) == ([[12, -8]], Dyadic(8))
    assert node.op.bias.tolist() == [320, 576]


def test_a_depthwise_inverse_follows_channel_and_multiplier(tmp_path: Path) -> None:
    layer = q(
        "QDepthwiseConv2DBatchnorm",
        1,
        depth_multiplier=2,
        epsilon=0.0,
        depthwise_quantizer=bits(6, 2),
    )
    values = {"depthwise_kernel": [[1, 1], [1, 1]], "gamma": [1, 2, 3, -1]}
    path = tmp_path / "model.keras"
    model_of(layer, (2, 2, 2), values).save(path)
    (node,) = load_model(path).nodes
    assert isinstance(node.op, Conv)
    assert node.op.weight.reshape(-1).tolist() == [8, 16, 24, -8]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_without_scale_or_bias(suffix: str, tmp_path: Path) -> None:
    layer = q("QConv2DBatchnorm", 2, 2, use_bias=False, bias_quantizer=bits(6, 2))
    assert_equal(model_of(layer, (3, 3, 2), {}), tmp_path / f"model.{suffix}")


def test_a_float_bias_is_exact_in_real_arithmetic(tmp_path: Path) -> None:
    layer = q("QConv2DBatchnorm", 3, 2, bias_quantizer=None)
    model = model_of(layer, (4, 4, 2), {}, act(bits(6, 3)))
    assert assert_equal(model, tmp_path / "model.keras").meaning is Meaning.REAL


def test_a_weight_at_a_tie_that_float32_decides_is_refused(tmp_path: Path) -> None:
    layer = q("QDenseBatchnorm", 3, name="folded")
    inverse = 1 / np.sqrt(1 + 0.001)
    values = {"kernel": [[0.3, 0.5 / 8 / inverse, 0.2]]}
    path = tmp_path / "model.keras"
    model_of(layer, (1,), values).save(path)
    with pytest.raises(Unsupported) as caught:
        load_model(path)
    assert str(caught.value) == (
        "layer 'folded' (QDenseBatchnorm): 1 of the 3 values of its folded kernel lie so near a tie of the "
        "kernel_quantizer that the last bit of float32 decides\n"
        "  fix: train it a little further, or give the kernel_quantizer fewer bits"
    )


def test_a_bias_at_a_tie_that_float32_decides_is_refused(tmp_path: Path) -> None:
    layer = q("QDenseBatchnorm", 1, name="folded", bias_quantizer=bits(4, 0))
    path = tmp_path / "model.keras"
    model_of(layer, (1,), {"kernel": [[0.3]], "bias": [0.5 / 8 * np.sqrt(1.001)]}).save(path)
    with pytest.raises(
        Unsupported,
        match="1 of the 1 values of its folded bias lie so near a tie of the bias_quant",
    ):
        load_model(path)


def test_a_missing_vector_is_named(tmp_path: Path) -> None:
    from dataclasses import replace

    from edgeflow.errors import EdgeflowError
    from edgeflow.frontends.qkeras import import_content
    from edgeflow.frontends.qkeras.content import read_content

    path = tmp_path / "model.keras"
    model_of(q("QDenseBatchnorm", 1, name="folded"), (1,), {}).save(path)
    content = read_content(path)
    kept = tuple(one for one in content.arrays if "batchnorm/" not in f"{one.key}/" or one.slot != "3")
    with pytest.raises(EdgeflowError) as caught:
        import_content(replace(content, arrays=kept), "x")
    assert str(caught.value) == (
        "layer 'folded' (QDenseBatchnorm): the file holds no variance for it\n  fix: save the whole model again"
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 6, 8, 10, 12])
def test_no_weight_flips_against_predict(width: int, tmp_path: Path) -> None:
    """Wide layers with random statistics: either refused for a tie, or every output is the same."""
    rng = np.random.default_rng(width)
    layer = q(
        "QDenseBatchnorm",
        256,
        kernel_quantizer=bits(width, 0),
        bias_quantizer=bits(width, 2),
    )
    values = {name: rng.uniform(0.3, 2, 256) for name in VECTORS} | {"kernel": rng.normal(0, 0.3, (24, 256))}
    model = model_of(layer, (24,), values)
    path = tmp_path / "model.keras"
    model.save(path)
    try:
        graph = load_model(path)
    except Unsupported as error:
        assert "the last bit of float32 decides" in error.what
        return
    assert differences(model, graph, inputs_for(graph, rng, 200)) == {}
