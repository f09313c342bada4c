"""Sequential and Functional, nested and shared: one flat list of calls, and errors that name the inner layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.qkeras import import_content
from edgeflow.frontends.qkeras.connections import Link, Step, ordered
from edgeflow.frontends.qkeras.content import Content, read_content
from edgeflow.frontends.qkeras.model import MOST_CALLS, Model, read_model
from edgeflow.frontends.qkeras.structure import MOST_LAYERS

Saved = Callable[[str], Path]
Config = dict[str, Any]

QUANTIZE = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 2, "alpha": 1}}


def tensor(name: str, call: int = 0, result: int = 0) -> Config:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, result]}}


def node(*tensors: Config, **kwargs: object) -> Config:
    return {"args": [list(tensors)], "kwargs": kwargs}


def layer(name: str, *nodes: object, kind: str = "QActivation", **config: object) -> Config:
    defaults = {"activation": QUANTIZE} if kind == "QActivation" else {}
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **defaults, **config},
        "inbound_nodes": list(nodes),
    }


def source(name: str) -> Config:
    return layer(name, kind="InputLayer", batch_shape=[None, 4])


def functional(name: str, inputs: list[str], outputs: list[Any], *layers: Config) -> Config:
    config = {
        "name": name,
        "layers": [*(source(one) for one in inputs), *layers],
        "input_layers": [[one, 0, 0] for one in inputs],
        "output_layers": [[one, 0, 0] if isinstance(one, str) else one for one in outputs],
    }
    return {"class_name": "Functional", "name": name, "config": config, "inbound_nodes": []}


def sequential(name: str, *layers: Config) -> Config:
    return {
        "class_name": "Sequential",
        "name": name,
        "config": {"name": name, "layers": list(layers)},
        "inbound_nodes": [],
    }


def called(model: Config, *nodes: object) -> Config:
    """An inner model with these calls."""
    return {**model, "inbound_nodes": list(nodes)}


def flat(config: Config) -> Model:
    return read_model(Content("keras", config, ()), "FILE")


def refusal(config: Config) -> str:
    with pytest.raises(EdgeflowError) as caught:
        flat(config)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def told(model: Model) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
    return [(call.layer.name, call.inputs) for call in model.calls]


ONE = functional("inner", ["i"], ["a"], layer("a", node(tensor("i"))))
SUM = functional("inner", ["i", "j"], ["s"], layer("s", node(tensor("i"), tensor("j")), kind="Add"))


def test_a_nested_model_becomes_its_layers() -> None:
    inner = functional("inner", ["i"], ["b"], layer("a", node(tensor("i"))), layer("b", node(tensor("a"))))
    inner = called(inner, node(tensor("q")), node(tensor("inner", 0)))
    model = flat(functional("outer", ["x"], [["inner", 2, 0]], layer("q", node(tensor("x"))), inner))
    assert told(model) == [
        ("x", ()),
        ("q", ((0, 0),)),
        ("inner/a", ((1, 0),)),
        ("inner/b", ((2, 0),)),
        ("inner/a", ((3, 0),)),
        ("inner/b", ((2, 1),)),
    ]
    assert (model.inputs, model.outputs, model.output_names) == (((0, 0),), ((3, 1),), ("inner",))
    assert model.calls[2].layer is model.calls[4].layer


def test_keras_3_counts_a_nested_functional_from_1_in_its_output_layers_alone() -> None:
    nodes = (node(tensor("x")), node(tensor("inner", 0)))
    first = functional("outer", ["x"], [["inner", 1, 0], ["inner", 2, 0]], called(ONE, *nodes))
    assert flat(first).outputs == ((1, 0), (1, 1))
    inner = called(sequential("inner", layer("a")), *nodes)
    second = functional("outer", ["x"], [["inner", 0, 0], ["inner", 1, 0]], inner)
    assert flat(second).outputs == ((1, 0), (1, 1))


@pytest.mark.parametrize("late", [0, 1])
def test_older_keras_counts_a_nested_model_from_0_or_1(late: int) -> None:
    """It depends on how the inner model got its input, which the file does not tell; the highest number does."""
    inner = called(sequential("inner", source("i"), layer("a")), [["x", 0, 0, {}]], [["inner", late, 0, {}]])
    model = flat(functional("outer", ["x"], [["inner", 1 + late, 0]], inner))
    assert told(model)[1:] == [("inner/a", ((0, 0),)), ("inner/a", ((1, 0),))]
    assert model.outputs == ((1, 1),)


def test_an_inner_model_that_does_nothing() -> None:
    inner = called(functional("inner", ["i"], ["i"]), node(tensor("q")))
    layers = layer("q", node(tensor("x"))), inner, layer("b", node(tensor("inner")))
    assert told(flat(functional("outer", ["x"], ["b"], *layers)))[2] == ("b", ((1, 0),))


def test_a_call_on_a_dict_follows_the_names_of_the_inputs() -> None:
    def outer(keys: tuple[str, str], inner_inputs: object) -> Config:
        call = {"args": [{keys[0]: tensor("x"), keys[1]: tensor("y")}], "kwargs": {}}
        inner = called({**SUM, "config": {**SUM["config"], "input_layers": inner_inputs}}, call)
        return functional("outer", ["x", "y"], [["inner", 1, 0]], inner)

    listed, named = [["i", 0, 0], ["j", 0, 0]], {"u": ["j", 0, 0], "v": ["i", 0, 0]}
    assert told(flat(outer(("i", "j"), listed)))[-1][1] == ((0, 0), (1, 0))
    assert told(flat(outer(("j", "i"), listed)))[-1][1] == ((1, 0), (0, 0))
    assert told(flat(outer(("u", "v"), named)))[-1][1] == ((1, 0), (0, 0))
    assert refusal(outer(("i", "k"), listed)) == (
        "layer 'inner' (Functional): it is called on a dict with the keys i, k, which are not its inputs' names\n"
        "  fix: call it on a list of tensors"
    )


@pytest.mark.parametrize("kwargs", [{"training": False}, {"mask": None, "training": None}, {"mask": [None, None]}])
def test_options_of_a_call_that_say_nothing(kwargs: dict[str, object]) -> None:
    assert len(flat(functional("m", ["x"], ["a"], layer("a", node(tensor("x"), **kwargs)))).calls) == 2
    assert len(flat(functional("m", ["x"], ["a"], layer("a", [["x", 0, 0, kwargs]]))).calls) == 2


def test_a_sum_of_older_keras_is_an_add() -> None:
    plus = layer("p", ["x", 0, 0, {"y": ["y", 0, 0], "name": None}], kind="TFOpLambda", function="__operators__.add")
    model = flat(functional("m", ["x", "y"], ["p"], plus))
    assert (model.calls[-1].layer.kind, model.calls[-1].inputs) == ("Add", ((0, 0), (1, 0)))
    plus["config"]["function"] = "math.multiply"
    assert flat(functional("m", ["x", "y"], ["p"], plus)).calls[-1].layer.kind == "tf.math.multiply"


def doubled(levels: int) -> Config:
    """Each model calls the one inside it twice."""
    inner = {**ONE, "name": "m0"}
    for level in range(1, levels):
        inner = called(inner, node(tensor("i")), node(tensor(inner["name"], 0)))
        inner["config"] = {**inner["config"], "name": inner["name"]}
        inner = functional(f"m{level}", ["i"], [[inner["name"], 2, 0]], inner)
    return inner


SAVE = "\n  fix: save the model again with model.save('model.keras')"
REFUSED: list[tuple[str, Config, str]] = [
    (
        "a circle",
        functional("m", ["x"], ["b"], layer("a", node(tensor("b"))), layer("b", node(tensor("a")))),
        "FILE: damaged or not a Keras model: its layers form a circle or read what does not exist" + SAVE,
    ),
    (
        "an unknown layer name",
        functional("m", ["x"], ["a"], layer("a", node(tensor("z")))),
        "layer 'a' (QActivation): damaged or not a Keras model: a connection leads nowhere",
    ),
    (
        "a second result of a layer with one",
        functional("m", ["x"], ["a"], layer("a", node(tensor("x", 0, 1)))),
        "FILE: damaged or not a Keras model: a connection leads nowhere" + SAVE,
    ),
    (
        "an inner model called on too few tensors",
        functional("m", ["x"], [["inner", 1, 0]], called(SUM, node(tensor("x")))),
        "layer 'inner' (Functional): it is called on 1 tensors and takes 2",
    ),
    (
        "a Sequential that goes on with two tensors",
        sequential("m", source("x"), functional("two", ["i"], ["i", "i"]), layer("a")),
        "layer 'two' (Functional): it has 2 outputs, and a Sequential model goes on with one",
    ),
    (
        "an input in the middle",
        sequential("m", source("x"), layer("a"), source("y")),
        "layer 'y' (InputLayer): it is not one of the model's inputs",
    ),
    (
        "an input that is none",
        functional("m", ["x"], ["a"], source("y"), layer("a", node(tensor("x")))),
        "layer 'y' (InputLayer): it is not one of the model's inputs",
    ),
    (
        "one name twice",
        functional("m", ["x"], [["n", 1, 0]], sequential("n", source("i"), layer("a"), layer("a"))),
        "layer 'n' (Sequential): two layers are named 'a'\n  fix: rename one of them",
    ),
    ("no layers", sequential("m"), "FILE: the model has no layers"),
    (
        "a true option",
        functional("m", ["x"], ["a"], layer("a", [["x", 0, 0, {"training": True}]])),
        "layer 'a' (QActivation): it is called with training=True\n  fix: call it without training",
    ),
    (
        "a number as argument",
        functional("m", ["x"], ["a"], layer("a", [["_CONSTANT_VALUE", -1, 3.0, {}]])),
        "layer 'a' (QActivation): a call's argument is not a tensor\n  fix: call layers on tensors only",
    ),
    (
        "Lambda inside",
        sequential("m", source("x"), sequential("n", layer("double", kind="Lambda"))),
        "layer 'double' (Lambda): a Lambda holds Python code, and edgeflow runs nothing from a model file\n"
        "  fix: replace it with a QKeras layer",
    ),
    (
        "too many layers",
        sequential("m", source("x"), *(layer(f"a{number}") for number in range(MOST_LAYERS))),
        f"FILE: the model has more than {MOST_LAYERS} layers",
    ),
    (
        "calls that double with every model",
        doubled(14),
        f"FILE: the model calls its layers more than {MOST_CALLS} times",
    ),
    (
        "models within models",
        doubled(19),
        f"layer '{'/'.join(f'm{level}' for level in range(17, 0, -1))}' (Functional): damaged or not a Keras model: "
        f"its models are nested too deep{SAVE}",
    ),
]


@pytest.mark.parametrize(("config", "text"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusal(config: Config, text: str) -> None:
    assert refusal(config) == text


def test_errors_name_the_layer_inside_its_models(saved: Saved) -> None:
    content = read_content(saved("v3") / "nested.h5")

    def refused(change: Callable[[Config], object]) -> str:
        config: Any = json.loads(json.dumps(content.config))
        inner = config
        for name in ("three", "two", "one", "d"):
            inner = next(one for one in inner["config"]["layers"] if one["config"]["name"] == name)
        change(inner)
        with pytest.raises(EdgeflowError) as caught:
            import_content(Content(content.format, config, content.arrays), "x")
        return str(caught.value)

    assert refused(lambda inner: inner["config"].update(kernel_quantizer=None)).startswith(
        "layer 'three/two/one/d' (QDense): it has no kernel_quantizer"
    )
    assert refused(lambda inner: inner.update(class_name="QDens")).startswith(
        "layer 'three/two/one/d' (QDens): QDens is not supported"
    )


def test_a_long_place_keeps_its_end() -> None:
    inner = layer("guilty", [["_CONSTANT_VALUE", -1, 3.0, {}]])
    middle = functional("a" * 40, ["i"], ["o"], functional("b" * 40, ["j"], ["k"], inner))
    assert refusal(functional("m", ["x"], ["y"], middle)).startswith(
        f"layer '...{'a' * 9}/{'b' * 40}/guilty' (QActivation): a call's argument is not"
    )


def test_every_call_of_a_shared_layer_has_its_own_tensor(saved: Saved) -> None:
    graph = import_content(read_content(saved("v3") / "shared.keras"), "x")
    assert [node.name for node in graph.nodes if node.layer == "d"] == ["d", "d_act", "d_2", "d_act_2"]


class Counted(tuple[Link, ...]):
    """Inputs of a step that count how often they are looked through."""

    looks = 0

    def __iter__(self) -> Iterator[Link]:
        Counted.looks += 1
        return super().__iter__()


def test_sorting_looks_at_each_connection_once() -> None:
    """Also for a file in the opposite order, and a layer that reads all others."""
    Counted.looks = 0
    chain = [Step(number, 0, Counted([(number - 1, 0, 0)])) for number in range(1, 501)]
    wide = Step(501, 0, Counted([(number, 0, 0) for number in range(501)]))
    steps = list(ordered([wide, *reversed(chain)], [0], "x"))
    assert steps == [*chain, wide]
    assert Counted.looks == 501
