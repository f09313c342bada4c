"""What the tests against live QKeras share: short names for layers and quantizers, and the comparison itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers, to_reals


def bits(*args: Any, **kwargs: Any) -> Any:
    import qkeras

    return qkeras.quantized_bits(*args, **{"alpha": 1, **kwargs})


def relu(*args: Any, **kwargs: Any) -> Any:
    import qkeras

    return qkeras.quantized_relu(*args, **kwargs)


def act(quantizer: Any, name: str | None = None) -> Any:
    import qkeras

    return qkeras.QActivation(quantizer, name=name)


def layers() -> Any:
    import keras

    return keras.layers


def q(kind: str, *args: Any, **settings: Any) -> Any:
    """A QKeras layer with small quantizers for every weight that it has, unless `settings` say otherwise."""
    import qkeras

    roles = _ROLES.get(kind, ("kernel", "bias"))
    defaults = {f"{role}_quantizer": bits(6, 2) if role == "bias" else bits(4, 0) for role in roles}
    return getattr(qkeras, kind)(*args, **{**defaults, **settings})


_ROLES = {
    "QDepthwiseConv2D": ("depthwise", "bias"),
    "QDepthwiseConv2DBatchnorm": ("depthwise", "bias"),
    "QSeparableConv1D": ("depthwise", "pointwise", "bias"),
    "QSeparableConv2D": ("depthwise", "pointwise", "bias"),
    "QScaleShift": ("weight", "bias"),
    "QAveragePooling2D": ("average",),
    "QGlobalAveragePooling2D": ("average",),
}


def conv(filters: int, size: Any, **settings: Any) -> Any:
    return q("QConv2D", filters, size, **{"activation": relu(5, 2), **settings})


def dense(units: int, **settings: Any) -> Any:
    return q("QDense", units, **settings)


def inputs_for(graph: Graph, rng: np.random.Generator, samples: int = 24) -> dict[str, Any]:
    """Noise, zeros, saturation at both ends and exact ties of each input's quantizer."""
    result: dict[str, Any] = {}
    for one in graph.inputs:
        assert isinstance(one.label, Dyadic)
        frac = int(np.asarray(one.label.frac))
        x = rng.normal(0, 2, (samples, *one.type.shape))
        x[0], x[1], x[2] = 0, 900, -900
        x[3:9] = (np.rint(x[3:9] * 2.0**frac) + 0.5) / 2.0**frac
        result[one.name] = x.astype(np.float32)
    return result


def randomize(model: Any, rng: np.random.Generator) -> None:
    """Random weights; variances stay positive, step counters as they are."""
    for layer in model.layers:
        for one in layer.weights:
            values = rng.normal(0, 0.6, one.shape).astype(np.float32)
            if "variance" in one.path:
                values = np.abs(values) + np.float32(0.3)
            if tuple(one.shape):
                one.assign(values)


def assert_equal(model: Any, path: Path, *, fill: bool = True) -> Graph:
    """Saves, imports, runs both; every output value must be the same. Gives the graph."""
    rng = np.random.default_rng(3)
    if fill:
        randomize(model, rng)
    model.save(path)
    graph = load_model(path)
    assert differences(model, graph, inputs_for(graph, rng)) == {}
    return graph


def differences(model: Any, graph: Graph, x: dict[str, Any]) -> dict[str, int]:
    """How many values of each output differ between `predict` and the interpreter; only outputs with some."""
    expected = model.predict(list(x.values()) if len(x) > 1 else next(iter(x.values())), verbose=0, batch_size=64)
    actual, _ = interpret(graph, {one.name: to_integers(x[one.name], one.type, one.label) for one in graph.inputs})
    given = expected if isinstance(expected, list) else [expected]
    assert len(given) == len(graph.outputs)
    found: dict[str, int] = {}
    for output, values in zip(graph.outputs, given, strict=True):
        reals = to_reals(actual[output.name], graph.tensor(output.tensor).label)
        assert reals.shape == values.shape, output.name
        wrong = int((reals != values.astype(np.float64)).sum())
        if wrong:
            found[output.name] = wrong
    return found
