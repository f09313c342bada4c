"""Each imported layer and quantizer form against QKeras' `predict`: 0 values may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends import load_model
from edgeflow.ir.types import Dyadic
from tests.frontends.qkeras.against import (
    act,
    assert_equal,
    bits,
    conv,
    dense,
    layers,
    relu,
)
from tests.frontends.qkeras.rows import SHAPES, WEIGHTED, Build

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def model_of(size: tuple[int, ...], rows: dict[str, Build]) -> Any:
    """One model with an output a row, all behind one quantized input."""
    import keras

    source = keras.Input(size, name="x")
    x = act(bits(6, 2))(source)
    named = {f"row_{name.replace(' ', '_').replace(',', '')}": build for name, build in rows.items()}
    return keras.Model(
        source,
        [layers().Identity(name=name)(build(x)) for name, build in named.items()],
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_every_row(shape: str, tmp_path: Path) -> None:
    assert_equal(model_of(*SHAPES[shape]), tmp_path / "model.keras")


@pytest.mark.parametrize("shape", ["sequence", "image", "vector"])
def test_rows_with_weights_from_h5(shape: str, tmp_path: Path) -> None:
    size, rows = SHAPES[shape]
    chosen = {name: build for name, build in rows.items() if name in WEIGHTED}
    assert_equal(model_of(size, chosen), tmp_path / "model.h5")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "name"),
    [(shape, name) for shape, (_, rows) in SHAPES.items() for name in rows],
)
def test_a_row_alone(shape: str, name: str, tmp_path: Path) -> None:
    size, rows = SHAPES[shape]
    assert_equal(model_of(size, {name: rows[name]}), tmp_path / "model.keras")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_sequential(suffix: str, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            act(bits(8, 0), "first"),
            conv(3, 3, name="conv"),
            layers().MaxPooling2D(),
            layers().Flatten(),
            dense(4, name="out"),
        ],
        name="digits",
    )
    graph = assert_equal(model, tmp_path / f"model.{suffix}")
    assert (graph.name, graph.inputs[0].name, graph.outputs[0].name) == (
        "digits",
        "pixels",
        "out",
    )


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_several_inputs_and_outputs(suffix: str, tmp_path: Path) -> None:
    import keras

    left, right = (
        keras.Input((6, 6, 2), name="left"),
        keras.Input((6, 6, 2), name="right"),
    )
    a, b = act(bits(8, 1))(left), act(relu(6, 1))(act(relu(6, 1))(right))
    x = layers().Add(name="sum")([conv(2, 3, padding="same")(a), b])
    model = keras.Model([right, left], [dense(3, name="second")(layers().Flatten()(x)), x])
    graph = assert_equal(model, tmp_path / f"model.{suffix}")
    assert [one.name for one in graph.inputs] == ["right", "left"]
    assert [one.name for one in graph.outputs] == ["second", "sum"] == model.output_names


def test_dictionaries_of_outputs_keep_their_layers_names(tmp_path: Path) -> None:
    import keras

    source = keras.Input((5,), name="x")
    x = act(bits(8, 1))(source)
    model = keras.Model(source, {"zz": dense(2, name="a")(x), "aa": dense(3, name="b")(x)})
    model.save(tmp_path / "model.keras")
    assert [one.name for one in load_model(tmp_path / "model.keras").outputs] == model.output_names == ["b", "a"]


def test_a_shared_layer(tmp_path: Path) -> None:
    import keras

    source = keras.Input((6, 6, 2), name="x")
    shared = conv(2, 3, padding="same", name="shared")
    x = act(relu(5, 2))(source)
    once = shared(x)
    graph = assert_equal(keras.Model(source, [shared(once), once]), tmp_path / "model.keras")
    assert [one.name for one in graph.outputs] == ["shared", "shared_2"]
    assert [node.name for node in graph.nodes if node.layer == "shared"] == [
        "shared",
        "shared_act",
        "shared_2",
        "shared_act_2",
    ]


def test_one_quantizer_twice_on_one_input(tmp_path: Path) -> None:
    import keras

    source = keras.Input((4, 4, 1), name="x")
    branches = [act(bits(6, 1))(act(bits(6, 1))(source)) for _ in range(2)]
    graph = assert_equal(keras.Model(source, layers().Add()(branches)), tmp_path / "model.keras")
    assert len(graph.nodes) == 1


def test_a_sum_that_tensorflow_may_reorder_is_refused(tmp_path: Path) -> None:
    import keras

    source = keras.Input((4, 4, 1), name="x")
    add = layers().Add(name="add")
    model = keras.Model(source, add([act(bits(6, 1))(source), act(bits(6, 1))(source)]))
    model.save(tmp_path / "model.keras")
    with pytest.raises(Unsupported) as caught:
        load_model(tmp_path / "model.keras")
    assert str(caught.value) == (
        "layer 'add' (Add): it alone reads a quantized input or average, and TensorFlow may then reorder the "
        "float32 sum, which is not exact\n"
        "  fix: repeat that QActivation once more in front of it: this costs nothing and keeps the order"
    )


def test_an_input_that_an_add_and_another_layer_read(tmp_path: Path) -> None:
    import keras

    source = keras.Input((5, 5, 2), name="x")
    x = act(bits(7, 1))(source)
    assert_equal(
        keras.Model(source, layers().Add()([x, conv(2, 3, padding="same")(x)])),
        tmp_path / "model.keras",
    )


def test_layers_that_move_values_before_the_input_quantizer(tmp_path: Path) -> None:
    import keras

    source = keras.Input((16,), name="x")
    x = act(bits(8, 1))(layers().Reshape((4, 4, 1))(layers().Dropout(0.1)(source)))
    graph = assert_equal(
        keras.Model(source, dense(2)(layers().Flatten()(conv(2, 2)(x)))),
        tmp_path / "model.keras",
    )
    assert graph.inputs[0].type.shape == (16,)


def test_pruned_channels_do_not_widen_the_label(tmp_path: Path) -> None:
    import keras

    source = keras.Input((6,), name="x")
    layer = dense(4, kernel_quantizer=bits(4, 0, alpha="auto_po2"), use_bias=False, name="d")
    model = keras.Model(source, layer(act(bits(8, 1))(source)))
    kernel = np.full((6, 4), 0.5, dtype=np.float32)
    kernel[:, 1] = 0
    layer.set_weights([kernel])
    model.save(tmp_path / "model.keras")
    graph = load_model(tmp_path / "model.keras")
    assert len(graph.nodes) == 1
    assert isinstance(graph.nodes[0].label, Dyadic)
    assert isinstance(graph.nodes[0].label.frac, int)


MOVES: dict[str, Build] = {
    "permute": lambda x: layers().Permute((2, 1, 3))(x),
    "cropping": lambda x: layers().Cropping2D(1)(x),
    "zero padding": lambda x: layers().ZeroPadding2D(((0, 1), (2, 0)))(x),
    "upsampling": lambda x: layers().UpSampling2D(2)(x),
    "two of them": lambda x: layers().UpSampling1D(2)(layers().Reshape((5, 8))(x)),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())
def test_an_input_is_quantized_behind_what_moves_it(move: Build, tmp_path: Path) -> None:
    import keras

    source = keras.Input((4, 5, 2), name="x")
    graph = assert_equal(keras.Model(source, dense(2)(act(bits(8, 1))(move(source)))), tmp_path / "model.keras")
    assert (graph.inputs[0].type.lo, graph.inputs[0].label) == (-128, Dyadic(6))


def test_a_difference_is_never_regrouped(tmp_path: Path) -> None:
    """TensorFlow flattens sums of x + (q - x), not differences: two quantizers of a raw input may meet in one."""
    import keras

    source = keras.Input((6, 2), name="x")
    x = act(bits(12, 3))(source)
    first, second = act(bits(6, 1))(x), act(bits(5, 3))(x)
    model = keras.Model(source, layers().Add()([layers().Subtract()([first, second]), act(bits(4, 1))(x)]))
    assert_equal(model, tmp_path / "model.keras")
