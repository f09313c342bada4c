"""A Keras configuration, Sequential or Functional, as one list of layers and the calls that connect them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.content import Content, Float32Array, StoredArray, damaged
from edgeflow.frontends.qkeras.fields import Fields, as_list, as_object, shown

MOST_LAYERS = 2000
_DEEPEST = 64

Ref = tuple[int, int]
"""A layer's index in the file and which of its calls: names one tensor."""


@dataclass(frozen=True)
class Layer:
    """One layer: its Keras name, class (`module.Class` when foreign), place in the file, configuration, weights."""

    name: str
    kind: str
    index: int
    fields: Fields
    weights: Mapping[str, Float32Array]

    @property
    def where(self) -> str:
        """How an error names the layer."""
        return self.fields.where


@dataclass(frozen=True)
class Call:
    """One use of a layer on the results of other calls."""

    layer: Layer
    ref: Ref
    inputs: tuple[Ref, ...]


@dataclass(frozen=True)
class Model:
    """Calls in an order in which each comes after those that it reads."""

    name: str
    calls: tuple[Call, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]


def read_model(content: Content, where: str) -> Model:
    """The layers and connections of a file. Raises EdgeflowError; Unsupported for nested models and Lambda."""
    top = as_object(content.config, where, "the configuration")
    _reject_lambda(top, where)
    kind = top.get("class_name")
    config = Fields(as_object(top.get("config"), where, "the model's config"), where)
    if kind not in ("Sequential", "Functional", "Model"):
        raise Unsupported(
            f"a {shown(kind)} is not a Sequential or Functional model",
            where=where,
            fix="build the model with keras.Sequential or keras.Model(inputs, outputs)",
        )
    entries = as_list(config.raw("layers"), where, "the list of layers")
    if not 0 < len(entries) <= MOST_LAYERS:
        raise EdgeflowError(f"the model has {len(entries)} layers, not 1 to {MOST_LAYERS}", where=where)
    layers = _read_layers(entries, content, where)
    name = clean_name(config.text("name", "model")) or "model"
    if kind == "Sequential":
        calls = tuple(Call(one, (one.index, 0), ((one.index - 1, 0),) if one.index else ()) for one in layers)
        if layers[0].kind != "InputLayer":
            raise Unsupported(
                "the model does not say what it reads", where=where, fix="start it with keras.Input(shape)"
            )
        return Model(name, calls, ((0, 0),), ((len(layers) - 1, 0),))
    return _functional(name, layers, entries, config, where)


def clean_name(name: str) -> str:
    """A name from a file as valid Unicode of bounded length."""
    return name.encode(errors="replace").decode()[:200]


def _read_layers(entries: list[object], content: Content, where: str) -> tuple[Layer, ...]:
    described: list[tuple[str, str, Fields]] = []
    for number, entry in enumerate(entries):
        data = as_object(entry, where, f"layer {number + 1}")
        kind = _kind(data, where)
        settings = as_object(data.get("config"), where, f"the config of layer {number + 1}")
        name = settings.get("name", data.get("name"))
        name = clean_name(name) if isinstance(name, str) else ""
        if not name:
            raise EdgeflowError(f"layer {number + 1} ({shown(kind)}) has no name", where=where, fix="name it")
        described.append((name, kind, Fields(settings, f"layer '{shown(name)}' ({shown(kind)})")))
    weights = _Weights(content.arrays, [name for name, _, _ in described], [kind for _, kind, _ in described])
    return tuple(
        Layer(name, kind, index, fields, weights.of(index)) for index, (name, kind, fields) in enumerate(described)
    )


def _kind(data: Mapping[str, object], where: str) -> str:
    """The class name; a class that is neither Keras' nor QKeras' keeps its module or package in front."""
    kind, module = data.get("class_name"), data.get("module")
    if not isinstance(kind, str):
        raise EdgeflowError("damaged or not a Keras model: a layer has no class_name", where=where)
    kind = clean_name(kind).removeprefix("qkeras>")
    if isinstance(module, str) and module.partition(".")[0] not in ("keras", "qkeras", "tf_keras"):
        return f"{clean_name(module)}.{kind}"
    return kind


class _Weights:
    """Finds each layer's weights: by the name stored beside them, else by Keras' numbered class names."""

    def __init__(self, arrays: tuple[StoredArray, ...], names: list[str], kinds: list[str]) -> None:
        self._by_name: dict[str, dict[str, Float32Array]] = {}
        self._by_key: dict[str, dict[str, Float32Array]] = {}
        for one in arrays:
            if one.layer is not None:
                self._by_name.setdefault(clean_name(one.layer), {})[one.slot] = one.values
            self._by_key.setdefault(one.key, {})[one.slot] = one.values
        self._names, self._keys = names, [f"layers/{key}" for key in _numbered(kinds)]

    def of(self, index: int) -> Mapping[str, Float32Array]:
        name = self._names[index]
        if self._names.count(name) == 1 and name in self._by_name:
            return self._by_name[name]
        return self._by_key.get(self._keys[index], {})


def _numbered(kinds: list[str]) -> Iterator[str]:
    """How Keras names a layer's group in a `.keras` file: its class in snake case, with _1, _2 ... when repeated."""
    seen: dict[str, int] = {}
    for kind in kinds:
        key = re.sub(r"\W+", "", kind)
        key = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", key)
        key = re.sub(r"([a-z])([A-Z])", r"\1_\2", key).lower()
        if key in seen:
            seen[key] += 1
            yield f"{key}_{seen[key]}"
        else:
            seen[key] = 0
            yield key


def _functional(name: str, layers: tuple[Layer, ...], entries: list[object], config: Fields, where: str) -> Model:
    places: dict[str, int] = {}
    for layer in layers:
        if layer.name in places:
            raise EdgeflowError(f"two layers are named '{shown(layer.name)}'", where=where, fix="rename one of them")
        places[layer.name] = layer.index
    calls: dict[Ref, Call] = {}
    for layer, entry in zip(layers, entries, strict=True):
        nodes = as_list(as_object(entry, where, "a layer").get("inbound_nodes"), layer.where, "inbound_nodes")
        if layer.kind == "InputLayer":
            calls[layer.index, 0] = Call(layer, (layer.index, 0), ())
            continue
        for number, node in enumerate(nodes):
            ref = (layer.index, number)
            calls[ref] = Call(layer, ref, tuple(_inbound(node, places, layer.where)))
    inputs = tuple(_ends(config.raw("input_layers"), places, where, 0))
    outputs = tuple(_ends(config.raw("output_layers"), places, where, 0))
    known = all(ref in calls for ref in (*inputs, *outputs))
    if not inputs or not outputs or not known or any(calls[ref].layer.kind != "InputLayer" for ref in inputs):
        raise damaged(where, "its inputs or outputs do not exist")
    return Model(name, tuple(_sorted(calls, where)), inputs, outputs)


def _inbound(node: object, places: Mapping[str, int], where: str) -> Iterator[Ref]:
    """The tensors that one call reads. Refuses arguments that are neither tensors nor defaults."""
    if not isinstance(node, dict):
        raise Unsupported(
            "its connections are stored by an older Keras", where=where, fix="load and save the model with qkeras-v3"
        )
    fields = cast(Mapping[str, object], node)
    options = as_object(fields.get("kwargs", {}), where, "a call's kwargs")
    for key, value in options.items():
        if value is not None and value is not False:
            raise Unsupported(
                f"it is called with {shown(key)}={shown(value)}", where=where, fix=f"call it without {shown(key)}"
            )
    yield from _tensors(fields.get("args"), places, where, 0)


def _tensors(value: object, places: Mapping[str, int], where: str, depth: int) -> Iterator[Ref]:
    if isinstance(value, list) and depth < _DEEPEST:
        for one in cast(list[object], value):
            yield from _tensors(one, places, where, depth + 1)
        return
    data = as_object(cast(object, value), where, "a call's argument")
    if data.get("class_name") != "__keras_tensor__":
        raise Unsupported("a call's argument is not a tensor", where=where, fix="call layers on tensors only")
    yield _ref(as_object(data.get("config"), where, "a tensor").get("keras_history"), places, where)


def _ends(value: object, places: Mapping[str, int], where: str, depth: int) -> Iterator[Ref]:
    """The tensors in input_layers or output_layers: one, a list, or a dict (read in key order, as Keras does)."""
    if isinstance(value, dict) and depth < _DEEPEST:
        data = cast(dict[str, object], value)
        for key in sorted(data):
            yield from _ends(data[key], places, where, depth + 1)
        return
    parts = as_list(cast(object, value), where, "the list of inputs or outputs")
    if parts and isinstance(parts[0], str):
        yield _ref(parts, places, where)
        return
    for part in parts:
        if depth >= _DEEPEST:
            raise damaged(where, "its inputs or outputs are nested too deep")
        yield from _ends(part, places, where, depth + 1)


def _ref(value: object, places: Mapping[str, int], where: str) -> Ref:
    match value:
        case [str(name), int(node), int(tensor)] if clean_name(name) in places and node >= 0 and tensor == 0:
            return places[clean_name(name)], int(node)
        case _:
            raise EdgeflowError("damaged or not a Keras model: a connection leads nowhere", where=where)


def _sorted(calls: Mapping[Ref, Call], where: str) -> Iterator[Call]:
    """Calls after those that they read, in file order where free."""
    done: set[Ref] = set()
    waiting = dict(calls)
    while waiting:
        before = len(done)
        for ref, call in list(waiting.items()):
            if all(one in done for one in call.inputs):
                done.add(ref)
                yield waiting.pop(ref)
        if len(done) == before:
            raise damaged(where, "its layers form a circle or read what does not exist")


def _reject_lambda(config: object, where: str) -> None:
    """Refuses stored Python code anywhere in a configuration."""
    stack: list[object] = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            data = cast(dict[str, object], value)
            if data.get("class_name") in ("Lambda", "__lambda__"):
                settings = data.get("config")
                name = cast(dict[str, object], settings).get("name") if isinstance(settings, dict) else None
                raise Unsupported(
                    "a Lambda holds Python code, and edgeflow runs nothing from a model file",
                    where=f"layer '{shown(name)}' (Lambda)" if isinstance(name, str) else where,
                    fix="replace it with a QKeras layer",
                )
            stack.extend(data.values())
        elif isinstance(value, list):
            stack.extend(cast(list[object], value))
