"""QKeras' `predict` against the interpreter on random models: 0 values may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.semantics.serialize import from_files, to_files

SAMPLES = 48


class Zoo:
    """Draws one small model from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.names = 0

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}_{self.names}"

    def act(self) -> Any:
        import qkeras

        bits = int(self.rng.integers(2, 9))
        return self.pick(
            lambda: qkeras.quantized_relu(bits, int(self.rng.integers(0, 4))),
            lambda: qkeras.quantized_relu(bits, int(self.rng.integers(0, 4))),
            lambda: qkeras.quantized_bits(bits, int(self.rng.integers(-1, 4)), int(self.rng.integers(2)), alpha=1),
            lambda: qkeras.quantized_bits(bits, int(self.rng.integers(0, 4)), keep_negative=False, alpha=None),
            lambda: qkeras.quantized_bits(bits, 1, alpha=self.pick(0.5, 2.0, 4)),
        )()

    def weights(self) -> dict[str, Any]:
        import qkeras

        bits = int(self.rng.integers(2, 7))
        kernel = self.pick(
            lambda: qkeras.quantized_bits(bits, int(self.rng.integers(0, 2)), alpha=1),
            lambda: qkeras.quantized_bits(bits, 0, 1, alpha=self.pick(1.0, 0.25, 2)),
            lambda: qkeras.quantized_bits(bits, 0, alpha=None),
            lambda: qkeras.quantized_bits(bits, int(self.rng.integers(-1, 3)), alpha="auto_po2"),
            lambda: qkeras.quantized_bits(1, 0, alpha=1),
            lambda: qkeras.quantized_bits(bits, 0, keep_negative=False, alpha=1),
        )()
        settings: dict[str, Any] = {"kernel_quantizer": kernel}
        settings["bias_quantizer"] = self.pick(
            qkeras.quantized_bits(int(self.rng.integers(2, 9)), int(self.rng.integers(0, 4)), alpha=1),
            qkeras.quantized_bits(int(self.rng.integers(2, 9)), int(self.rng.integers(0, 4)), alpha=1),
            qkeras.quantized_bits(5, 1, alpha="auto_po2"),
        )
        settings["use_bias"] = bool(self.rng.random() < 0.85)
        return settings

    def conv(self, x: Any, filters: int | None = None, *, same: bool = False) -> Any:
        import qkeras

        padding = "same" if same else self.pick("same", "valid")
        most = 3 if padding == "same" else min(3, int(x.shape[1]), int(x.shape[2]))
        kernel = (int(self.rng.integers(1, most + 1)), int(self.rng.integers(1, most + 1)))
        strides = 1 if same else int(self.rng.integers(1, 3))
        dilation = 2 if strides == 1 and padding == "same" and self.rng.random() < 0.2 else 1
        return qkeras.QConv2D(
            filters or int(self.rng.integers(1, 6)),
            kernel,
            strides=strides,
            padding=padding,
            dilation_rate=dilation,
            activation=self.act() if self.rng.random() < 0.7 else self.pick(None, "linear"),
            name=self.name("conv"),
            **self.weights(),
        )(x)

    def dense(self, x: Any, units: int, *, quantized: bool) -> Any:
        import qkeras

        activation = self.act() if quantized else None
        return qkeras.QDense(units, activation=activation, name=self.name("dense"), **self.weights())(x)

    def average(self, x: Any) -> Any:
        import keras
        import qkeras

        size = (int(self.rng.integers(1, 4)), int(self.rng.integers(1, 4)))
        padding = self.pick("same", "valid")
        if padding == "valid":
            size = (min(size[0], int(x.shape[1])), min(size[1], int(x.shape[2])))
        pooled = keras.layers.AveragePooling2D(
            size, strides=self.pick(None, 1, 2), padding=padding, name=self.name("avg")
        )(x)
        return qkeras.QActivation(self.pooled_act(), name=self.name("act"))(pooled)

    def pooled_act(self) -> Any:
        """Wide enough that float32's straight-through form holds behind a division."""
        import qkeras

        return self.pick(
            qkeras.quantized_relu(int(self.rng.integers(2, 9)), int(self.rng.integers(0, 5))),
            qkeras.quantized_bits(int(self.rng.integers(6, 11)), 6, alpha=1),
        )

    def step(self, x: Any) -> Any:
        import keras

        def residual() -> Any:
            start = self.settled(x)
            branches = [self.conv(start, 3, same=True) for _ in range(int(self.rng.integers(2, 4)))]
            return keras.layers.Add(name=self.name("add"))(branches)

        def pool() -> Any:
            padding = self.pick("same", "valid") if min(x.shape[1:3]) > 1 else "same"
            return keras.layers.MaxPooling2D(
                self.pick(1, 2), strides=self.pick(None, 1), padding=padding, name=self.name("max")
            )(x)

        return self.pick(
            lambda: self.conv(self.settled(x)),
            lambda: self.conv(self.settled(x)),
            residual,
            pool,
            lambda: self.average(self.settled(x)),
            lambda: keras.layers.Dropout(0.3, name=self.name("drop"))(x),
        )()

    def settled(self, x: Any) -> Any:
        """Puts a quantizer in front of a layer whose sums would otherwise outgrow float32."""
        import qkeras

        return qkeras.QActivation(self.act(), name=self.name("act"))(x)

    def model(self) -> Any:
        import keras
        import qkeras

        height, width, channels = (int(one) for one in self.rng.integers((4, 4, 1), (9, 9, 4)))
        source = keras.Input((height, width, channels), name="source")
        first = qkeras.quantized_bits(int(self.rng.integers(2, 9)), int(self.rng.integers(0, 3)), alpha=1)
        x = qkeras.QActivation(self.pick(first, qkeras.quantized_relu(6, 1)), name="first")(source)
        outputs: list[Any] = []
        for _ in range(int(self.rng.integers(1, 4))):
            x = self.step(x)
            if self.rng.random() < 0.15:
                outputs.append(x)
        x = self.settled(x)
        x = self.pick(
            lambda: keras.layers.Flatten(name="flat")(x),
            lambda: keras.layers.Reshape((-1,), name="flat")(x),
            lambda: qkeras.QActivation(self.pooled_act(), name="gap_act")(
                keras.layers.GlobalAveragePooling2D(keepdims=self.pick(True, False), name="gap")(x)
            ),
            lambda: keras.layers.GlobalMaxPooling2D(name="gmp")(x),
        )()
        if self.rng.random() < 0.5:
            x = self.dense(x, 6, quantized=True)
        outputs.append(self.dense(x, 4, quantized=bool(self.rng.random() < 0.2)))
        model = keras.Model(source, outputs if len(outputs) > 1 else outputs[0], name="zoo")
        self.fill(model)
        return model

    def fill(self, model: Any) -> None:
        """Weights with saturation, exact ties, zero channels."""
        for layer in model.layers:
            weights = layer.get_weights()
            for number, one in enumerate(weights):
                values = self.rng.normal(0, float(self.pick(0.1, 0.4, 1.5)), one.shape).astype(np.float32)
                if self.rng.random() < 0.3:
                    values = np.rint(values * 64).astype(np.float32) / np.float32(64)
                if self.rng.random() < 0.3:
                    values[..., 0] = 0
                weights[number] = values
            layer.set_weights(weights)


def extreme_inputs(rng: np.random.Generator, shape: tuple[int, ...], frac: int) -> np.ndarray[Any, Any]:
    """Zeros, saturation at both ends, exact ties of the input quantizer, noise of several sizes."""
    x = rng.normal(0, 1, (SAMPLES, *shape))
    x[0], x[1], x[2] = 0, 1000, -1000
    x[3] = np.where(rng.random(shape) < 0.5, 1000, -1000)
    x[4:12] = (np.rint(x[4:12] * 2.0**frac) + 0.5) / 2.0**frac
    x[12:20] *= 8
    x[20:28] *= 0.05
    return x.astype(np.float32)


def mismatches(graph: Graph, model: Any, x: dict[str, Any]) -> int:
    """How many output values differ between `predict` and the interpreter."""
    expected = model.predict(list(x.values()) if len(x) > 1 else next(iter(x.values())), verbose=0, batch_size=SAMPLES)
    expected = expected if isinstance(expected, list) else [expected]
    integers = {one.name: to_integers(x[one.name], one.type, one.label) for one in graph.inputs}
    actual, _ = interpret(graph, integers)
    assert [one.name for one in graph.outputs] == [tensor._keras_history.operation.name for tensor in model.outputs]
    wrong = 0
    for output, values in zip(graph.outputs, expected, strict=True):
        reals = to_reals(actual[output.name], graph.tensor(output.tensor).label)
        assert reals.shape == values.shape
        wrong += int((reals != values.astype(np.float64)).sum())
    return wrong


def check(model: Any, path: Path, seed: int = 0) -> Graph:
    """Saves, imports, runs; asserts 0 mismatches and an unchanged graph after a round trip through its files."""
    model.save(path)
    graph = load_model(path)
    rng = np.random.default_rng(seed)
    x = {
        one.name: extreme_inputs(rng, one.type.shape, one.label.frac)
        for one in graph.inputs
        if isinstance(one.label, Dyadic) and isinstance(one.label.frac, int)
    }
    assert mismatches(graph, model, x) == 0
    assert to_files(from_files(to_files(graph), "here")) == to_files(graph)
    return graph


def check_random(seed: int, folder: Path) -> None:
    suffix = ".keras" if seed % 2 else ".h5"
    check(Zoo(seed).model(), folder / f"model{suffix}", seed)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("seed", range(40))
def test_random_model_equals_predict(seed: int, tmp_path: Path) -> None:
    check_random(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_more_random_models_equal_predict(seed: int, tmp_path: Path) -> None:
    check_random(seed, tmp_path)
