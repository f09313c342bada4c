"""A configuration as a tree: models (Sequential or Functional) whose members are layers or again models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.calls import clean_name
from edgeflow.frontends.qkeras.connections import Link, Step, is_tf_add, ordered, read_ends, read_step
from edgeflow.frontends.qkeras.content import damaged
from edgeflow.frontends.qkeras.fields import (
    Fields,
    as_list,
    as_object,
    is_list,
    is_object,
    object_or_empty,
    shown,
)

MOST_LAYERS = 2000
DEEPEST_MODEL = 16
NO_LAYER = -1
_LONGEST_PLACE = 60
_SEQUENTIAL, _FUNCTIONAL = ("Sequential",), ("Functional", "Model")
_INPUT = "InputLayer"


@dataclass(frozen=True)
class Leaf:
    """One layer: its name and its Keras group key, each behind those of the nested models around it.

    `index` counts layers from 0 in file order; it is NO_LAYER for the input of a nested model, which only stands
    for what the model is called on.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    kind: str
    index: int
    fields: Fields

    @property
    def where(self) -> str:
        """How an error names the layer."""
        return self.fields.where


@dataclass(frozen=True)
class Block:
    """One model: its members, their calls in an order in which they can run, its ends.

    `inputs` are the members that are its inputs, in the order of its arguments; `keys` name them where it is
    called on a dict.
    """

    names: tuple[str, ...]
    sequential: bool
    where: str
    members: tuple[Leaf | Block, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    keys: tuple[str, ...]
    outputs: tuple[Link, ...]


def read_structure(config: object, where: str) -> Block:
    """The tree of a file's configuration. Raises EdgeflowError; Unsupported for Lambda and subclassed models."""
    top = as_object(config, where, "the configuration")
    _reject_lambda(top, where)
    kind = top.get("class_name")
    if "edgeflow_graph" in top:
        raise EdgeflowError("an imported graph, not a Keras model", where=where, fix="give the folder that it is in")
    if not isinstance(kind, str):
        raise damaged(where, "its configuration names no class_name")
    if kind not in _SEQUENTIAL + _FUNCTIONAL:
        raise Unsupported(
            f"a {shown(kind)} is not a Sequential or Functional model",
            where=where,
            fix="build the model with keras.Sequential or keras.Model(inputs, outputs)",
        )
    return _Reader().block(top, (), (), where)


def leaves(block: Block) -> Iterator[Leaf]:
    """Every layer of a tree in file order, without the inputs of nested models."""
    for member in block.members:
        if isinstance(member, Block):
            yield from leaves(member)
        elif member.index != NO_LAYER:
            yield member


class _Reader:
    """Reads models within models, counting layers."""

    def __init__(self) -> None:
        self._count = 0

    def block(self, data: Mapping[str, object], names: tuple[str, ...], keys: tuple[str, ...], where: str) -> Block:
        """The model in `data`; `names` and `keys` are its own, () for the outermost."""
        config = Fields(as_object(data.get("config"), where, "the model's config"), where)
        entries = [as_object(one, where, "a layer") for one in as_list(config.raw("layers"), where, "its layers")]
        if len(names) > DEEPEST_MODEL:
            raise damaged(where, "its models are nested too deep")
        if not entries:
            raise EdgeflowError("the model has no layers", where=where)
        if data.get("class_name") in _SEQUENTIAL and _described(entries[0])[0] != _INPUT:
            entries = [_input_entry(data, entries[0], bool(names)), *entries]
        members = tuple(self._members(entries, names, keys, where))
        if data.get("class_name") in _SEQUENTIAL:
            return _sequential(names, members, where)
        return _functional(names, members, entries, config, where)

    def _members(
        self, entries: Sequence[Mapping[str, object]], names: tuple[str, ...], keys: tuple[str, ...], where: str
    ) -> Iterator[Leaf | Block]:
        seen: set[str] = set()
        numbered = _numbered(_described(entry)[0] for entry in entries)
        for number, (entry, key) in enumerate(zip(entries, numbered, strict=True)):
            kind, name = _described(entry)
            if not kind:
                raise EdgeflowError("damaged or not a Keras model: a layer has no class_name", where=where)
            if not name:
                raise EdgeflowError(f"layer {number + 1} ({shown(kind)}) has no name", where=where, fix="name it")
            if name in seen:
                raise EdgeflowError(f"two layers are named '{shown(name)}'", where=where, fix="rename one of them")
            seen.add(name)
            path = (*names, name)
            whole = "/".join(path)
            whole = whole if len(whole) <= _LONGEST_PLACE else f"...{whole[3 - _LONGEST_PLACE :]}"
            place = f"layer '{shown(whole)}' ({shown(kind)})"
            if kind in _SEQUENTIAL + _FUNCTIONAL:
                yield self.block(entry, path, (*keys, key), place)
                continue
            settings = as_object(entry.get("config"), where, f"the config of layer {number + 1}")
            nested_input = bool(names) and kind == _INPUT
            index = NO_LAYER if nested_input else self._count
            self._count += not nested_input
            if self._count > MOST_LAYERS:
                raise EdgeflowError(f"the model has more than {MOST_LAYERS} layers", where=where)
            yield Leaf(path, (*keys, key), kind, index, Fields(settings, place))


def _described(entry: Mapping[str, object]) -> tuple[str, str]:
    """Class and name of a list's entry, "" where absent.

    A class that is neither Keras' nor QKeras' keeps its module in front; x + y of older Keras counts as Add.
    """
    fields = object_or_empty(entry.get("config"))
    kind, module, name = entry.get("class_name"), entry.get("module"), fields.get("name", entry.get("name"))
    kind = clean_name(kind).removeprefix("qkeras>") if isinstance(kind, str) else ""
    if kind == "TFOpLambda":
        kind = "Add" if is_tf_add(fields.get("function")) else f"tf.{shown(fields.get('function'))}"
    elif kind and isinstance(module, str) and module.partition(".")[0] not in ("keras", "qkeras", "tf_keras"):
        kind = f"{clean_name(module)}.{kind}"
    return kind, clean_name(name) if isinstance(name, str) else ""


def _input_entry(data: Mapping[str, object], first: Mapping[str, object], nested: bool) -> Mapping[str, object]:
    """The InputLayer that a Sequential model leaves out, with the shape that its first layer or its build tells."""
    fields, top, built = (
        object_or_empty(one) for one in (first.get("config"), data.get("config"), data.get("build_config"))
    )
    old = fields.get("batch_input_shape")
    shape = old or fields.get("batch_shape") or top.get("build_input_shape") or built.get("input_shape")
    name = f"{fields.get('name')}_input" if old else "input_layer"
    if shape is None and not nested:
        shape = _first_shape(first)
    return {"class_name": _INPUT, "config": {"name": name, "batch_shape": shape}}


def _first_shape(entry: Mapping[str, object]) -> object:
    """The input shape that a nested first model declares, None when it does not."""
    for _ in range(DEEPEST_MODEL):
        fields = object_or_empty(entry.get("config"))
        shape = fields.get("batch_shape") or fields.get("batch_input_shape")
        inner = fields.get("layers")
        if shape is not None or not is_list(inner) or not inner:
            return shape
        entry = object_or_empty(inner[0])
    return None


def _sequential(names: tuple[str, ...], members: tuple[Leaf | Block, ...], where: str) -> Block:
    steps = tuple(Step(number, 0, ((number - 1, 0, 0),)) for number in range(1, len(members)))
    for member in members[1:]:
        if isinstance(member, Block) and len(member.outputs) != 1:
            raise EdgeflowError(
                f"it has {len(member.outputs)} outputs, and a Sequential model goes on with one", where=member.where
            )
        if isinstance(member, Leaf) and member.kind == _INPUT:
            raise EdgeflowError("it is not one of the model's inputs", where=member.where)
    keys = (members[0].names[-1],)
    return Block(names, True, where, members, steps, (0,), keys, ((len(members) - 1, 0, 0),))


def _functional(
    names: tuple[str, ...],
    members: tuple[Leaf | Block, ...],
    entries: Sequence[Mapping[str, object]],
    config: Fields,
    where: str,
) -> Block:
    places = {member.names[-1]: number for number, member in enumerate(members)}
    sources = {number for number, member in enumerate(members) if isinstance(member, Leaf) and member.kind == _INPUT}
    steps: list[Step] = []
    old = False
    for number, (member, entry) in enumerate(zip(members, entries, strict=True)):
        nodes = as_list(entry.get("inbound_nodes"), member.where, "inbound_nodes")
        if number not in sources:
            old = old or not all(is_object(node) and "args" in node for node in nodes)
            calls = (read_step(number, call, node, places, member.where) for call, node in enumerate(nodes))
            steps += [_in_order(call, member) for call in calls]
    ends = config.raw("input_layers")
    inputs = tuple(member for member, _, _ in read_ends(ends, places, where))
    keys = tuple(sorted(ends)) if is_object(ends) else tuple(members[one].names[-1] for one in inputs)
    outputs = list(read_ends(config.raw("output_layers"), places, where))
    steps, outputs = (_from_zero_old if old else _from_zero)(steps, outputs, members)
    known = {(step.member, step.call) for step in steps} | {(number, 0) for number in sources}
    distinct = len(set(inputs)) == len(inputs) and sources.issuperset(inputs)
    if not inputs or not outputs or not distinct or any((member, call) not in known for member, call, _ in outputs):
        raise damaged(where, "its inputs or outputs do not exist")
    for number in sources.difference(inputs):
        raise EdgeflowError("it is not one of the model's inputs", where=members[number].where)
    return Block(names, False, where, members, tuple(ordered(steps, inputs, where)), inputs, keys, tuple(outputs))


def _in_order(step: Step, member: Leaf | Block) -> Step:
    """A call on a dict as one on a list. Raises Unsupported where the keys are not those of the member's inputs."""
    if not step.keys:
        return step
    if not isinstance(member, Block) or sorted(member.keys) != list(step.keys):
        raise Unsupported(
            f"it is called on a dict with the keys {shown(', '.join(step.keys))}, which are not its inputs' names",
            where=member.where,
            fix="call it on a list of tensors",
        )
    links = dict(zip(step.keys, step.inputs, strict=True))
    return replace(step, inputs=tuple(links[key] for key in member.keys))


def _from_zero(
    steps: list[Step], outputs: list[Link], members: Sequence[Leaf | Block]
) -> tuple[list[Step], list[Link]]:
    """Connections with calls counted from 0. Keras 3 counts a nested Functional's from 1 in output_layers alone."""
    late = {number for number, one in enumerate(members) if isinstance(one, Block) and not one.sequential}
    return steps, list(_counted(outputs, late))


def _from_zero_old(
    steps: list[Step], outputs: list[Link], members: Sequence[Leaf | Block]
) -> tuple[list[Step], list[Link]]:
    """As above. Older Keras counts a nested model's calls from 1 where the model came with an input of its own.

    Every call is read by someone, so the highest number that is read tells.
    """
    calls = Counter(step.member for step in steps)
    highest: Counter[int] = Counter()
    for member, call, _ in (*(link for step in steps for link in step.inputs), *outputs):
        highest[member] = max(highest[member], call)
    late = {
        number
        for number, member in enumerate(members)
        if isinstance(member, Block) and highest[number] == calls[number] > 0
    }
    return [replace(step, inputs=tuple(_counted(step.inputs, late))) for step in steps], list(_counted(outputs, late))


def _counted(links: Iterable[Link], late: Set[int]) -> Iterator[Link]:
    for member, call, tensor in links:
        yield member, call - (member in late), tensor


def _numbered(kinds: Iterable[str]) -> Iterator[str]:
    """How Keras names a layer's group in a `.keras` file: its class in snake case, with _1, _2 ... when repeated."""
    seen: Counter[str] = Counter()
    for kind in kinds:
        key = re.sub(r"\W+", "", kind)
        key = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", key)
        key = re.sub(r"([a-z])([A-Z])", r"\1_\2", key).lower()
        yield f"{key}_{seen[key]}" if seen[key] else key
        seen[key] += 1


def _reject_lambda(config: object, where: str) -> None:
    """Refuses stored Python code anywhere in a configuration."""
    stack: list[object] = [config]
    while stack:
        value = stack.pop()
        if is_object(value):
            if value.get("class_name") in ("Lambda", "__lambda__"):
                name = object_or_empty(value.get("config")).get("name")
                raise Unsupported(
                    "a Lambda holds Python code, and edgeflow runs nothing from a model file",
                    where=f"layer '{shown(name)}' (Lambda)" if isinstance(name, str) else where,
                    fix="replace it with a QKeras layer",
                )
            stack.extend(value.values())
        elif is_list(value):
            stack.extend(value)
