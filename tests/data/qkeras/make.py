"""Wrote v3.tar.xz and v09.tar.xz beside it: small models in every file form, with inputs and QKeras' own outputs.

v3.tar.xz: keras 3.15.1, tensorflow 2.21.0, qkeras-v3 1.2.1, in the environment of this project.
v09.tar.xz: `python3.11 -m venv OLD`, then `OLD/bin/pip install tensorflow-cpu==2.14.1 qkeras==0.9.0 numpy==1.26.4
"pyparsing<3.2" "setuptools<81"`, and `OLD/bin/python make.py`. Random weights, no training, no data of others.
Run it again only to change the models. An .npz holds inputs x0, x1 ... in the order of the model's inputs, and
outputs y0, y1 ... in that of its outputs.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import qkeras
from qkeras import quantized_bits, quantized_relu

FOLDER = Path(__file__).parent
OLD = keras.__version__.startswith("2.")
layers: Any = keras.layers


def act(name: str, text: str = "quantized_relu(6,2)") -> Any:
    return qkeras.QActivation(text, name=name)


def first(name: str = "q") -> Any:
    return act(name, "quantized_bits(8,2,alpha=1)")


def weights() -> dict[str, Any]:
    return {
        "kernel_quantizer": quantized_bits(4, 0, alpha=1),
        "bias_quantizer": quantized_bits(6, 1, alpha=1),
    }


def dense(name: str, units: int = 4, **more: Any) -> Any:
    return qkeras.QDense(units, name=name, **{**weights(), **more})


def conv(name: str, filters: int, size: int, **more: Any) -> Any:
    return qkeras.QConv2D(filters, size, name=name, **{**weights(), **more})


def source(name: str, *shape: int) -> Any:
    return keras.Input(shape or (4,), name=name)


def sequential(name: str, *parts: Any) -> Any:
    return keras.Sequential(list(parts), name=name)


def plain() -> Any:
    text = {"kernel_quantizer": "quantized_bits(4, 0, 1)", "bias_quantizer": "quantized_bits(6,1,alpha=1)"}
    return sequential(
        "plain",
        source("x", 5),
        first(),
        dense("d1", activation="quantized_relu(4)"),
        act("a", "quantized_bits(6, 2, 0, keep_negative=True, alpha=1.0)"),
        dense("d2", 3, **text),
    )


def bare() -> Any:
    head = qkeras.QActivation("quantized_bits(8,2,alpha=1)", name="q", input_shape=(5,))
    return sequential("bare", head, dense("d1"), act("a"), dense("d2", 3))


def late() -> Any:
    model = sequential("late", first(), dense("d1"))
    model(np.zeros((1, 5), np.float32))
    return model


def headless() -> Any:
    inner = source("i")
    front = keras.Model(inner, dense("fd")(first("fq")(inner)), name="front")
    return sequential("headless", front, act("r"), dense("e", 2))


def branches() -> Any:
    image = source("image", 6, 6, 1)
    x = qkeras.QActivation(quantized_bits(8, 1, alpha=1), name="q")(image)
    x = conv("c1", 3, 3, padding="same", activation=quantized_relu(4, 1))(x)
    y = conv("c2", 3, 1, kernel_quantizer=quantized_bits(4, 0, alpha="auto_po2"))(x)
    x = act("r1", "quantized_relu(5, 2)")(layers.Add(name="add")([x, y]))
    x = act("r2")(layers.AveragePooling2D(3, name="pool")(x))
    x = layers.Dropout(0.2, name="drop")(layers.Flatten(name="flat")(x), training=False)
    return keras.Model(image, dense("logits")(x), name="branches")


def shared() -> Any:
    a, b, quantize = source("a"), source("b"), first()
    twice = dense("d", activation=quantized_relu(6, 2))
    left, right = twice(quantize(a)), twice(quantize(b))
    both = act("sa")(layers.Add(name="s")([left, right]))
    return keras.Model([a, b], [dense("o", 2)(both), right], name="shared")


def nested() -> Any:
    """Three models deep, the inner two called twice, layers of one name in several of them."""
    i = source("i1")
    one = keras.Model(i, act("a")(dense("d")(i)), name="one")
    i = source("i2")
    two = keras.Model(i, one(one(act("b")(dense("e")(i)))), name="two")
    i = source("i3")
    middle = two(i)
    three = keras.Model(i, [middle, two(middle)], name="three")
    i = source("x")
    first_out, second_out = three(first()(i))
    return keras.Model(i, [second_out, dense("d", 3)(first_out)], name="nested")


def scopes() -> Any:
    """Two models with layers of one name inside a third: only their scopes tell the weights of an .h5 file apart."""
    names = ("d", "d") if not OLD else ("d", "f")
    parts = [sequential(f"s{n}", source(f"i{n}"), dense(name), act("a")) for n, name in enumerate(names)]
    i = source("i")
    inner = keras.Model(i, parts[1](parts[0](i)), name="inner")
    i = source("x")
    return keras.Model(i, inner(first()(i)), name="scopes")


def frozen() -> Any:
    """A frozen layer, whose weights Keras lists last, and x + y."""
    inner = sequential("inner", source("i"), dense("p"), act("pa"), dense("r"), act("ra"))
    inner.layers[0].trainable = False
    i = source("x")
    x = inner(first()(i), training=False)
    return keras.Model(i, act("last")(x + inner(x)), name="frozen")


def ends() -> Any:
    """Nested models with several inputs and outputs, called on lists and dicts; outputs in a dict."""
    i, j, turn = source("i"), source("j"), dense("t", activation=quantized_relu(6, 2))
    swap = keras.Model([i, j], [turn(j), turn(i)], name="swap")
    i, j = source("ia"), source("ib")
    added = layers.Add(name="ad")([act("a1")(dense("ka")(i)), act("a2")(dense("kb")(j))])
    join = keras.Model({"u": j, "v": i}, {"o": act("oo")(added)}, name="join")
    a, b, quantize = source("a"), source("b"), first()
    y1, y2 = swap([quantize(a), quantize(b)])
    y3, y4 = swap({"j": y1, "i": y2})
    return keras.Model({"a": a, "b": b}, {"z": join({"v": y3, "u": y4})["o"], "y": y1}, name="ends")


def sequence() -> Any:
    """Sequential holding Functional and Sequential."""
    i = source("ci", 6, 6, 1)
    x = act("ca")(conv("c1", 2, 3)(i))
    y = act("cb")(conv("c2", 2, 1)(x))
    block = keras.Model(i, layers.Add(name="ad")([x, y]), name="block")
    tail = sequential("tail", dense("dd"), act("da"))
    flat = layers.Flatten(name="flat")
    return sequential("sequence", source("x", 6, 6, 1), first(), block, act("z"), flat, tail, dense("end", 2))


def twin() -> Any:
    """One model in two places: Keras writes its weights once into .keras files and then cannot load them itself."""
    one = sequential("one", source("i"), dense("d"), act("a"))
    i = source("i2")
    two = keras.Model(i, one(act("b")(dense("e")(i))), name="two")
    i = source("x")
    return keras.Model(i, one(two(first()(i))), name="twin")


MODELS: tuple[Callable[[], Any], ...] = (
    plain,
    bare,
    late,
    headless,
    branches,
    shared,
    nested,
    scopes,
    frozen,
    ends,
    sequence,
    twin,
)


def predicted(model: Any, inputs: list[Any]) -> list[Any]:
    result = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    if isinstance(result, dict):
        return [result[key] for key in sorted(result)]
    return result if isinstance(result, list) else [result]


def write(model: Any, folder: Path) -> None:
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.5, one.shape).astype(np.float32) for one in model.get_weights()])
    stem = folder / model.name
    model.save(f"{stem}.keras")
    model.save(f"{stem}.h5")
    Path(f"{stem}.json").write_text(model.to_json())
    model.save_weights(f"{stem}.weights.h5")
    if OLD:
        model.save_weights(f"{stem}_weights.h5")
    inputs = [rng.normal(0, 1, (8, *one.shape[1:])).astype(np.float32) for one in model.inputs]
    outputs = predicted(model, inputs)
    arrays: dict[str, Any] = {f"x{n}": one for n, one in enumerate(inputs)} | {
        f"y{n}": one for n, one in enumerate(outputs)
    }
    np.savez(f"{stem}.npz", **arrays)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for make in MODELS:
            write(make(), folder)
        with tarfile.open(FOLDER / f"{'v09' if OLD else 'v3'}.tar.xz", "w:xz", preset=9) as archive:
            for file in sorted(folder.iterdir(), key=lambda one: (one.suffix, one.name)):
                archive.add(file, file.name)


if __name__ == "__main__":
    main()
