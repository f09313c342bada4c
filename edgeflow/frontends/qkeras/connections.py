"""Who reads whom within one model: the connections that Keras 3 and older Keras store, and an order of calls."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.calls import clean_name
from edgeflow.frontends.qkeras.content import damaged
from edgeflow.frontends.qkeras.fields import as_list, as_object, is_list, is_object, shown

_DEEPEST = 64
_TF_ADDS = ("__operators__.add", "math.add")

Link = tuple[int, int, int]
"""A model's member, which of its calls, which of that call's results: one tensor inside that model."""

Places = Mapping[str, int]
"""A model's members by name."""


@dataclass(frozen=True)
class Step:
    """One call of a member: which member, the how manieth call of it, and what it reads.

    `keys` name the inputs where the member is called on a dict of them, in order of these keys.
    """

    member: int
    call: int
    inputs: tuple[Link, ...]
    keys: tuple[str, ...] = ()


def read_step(member: int, call: int, node: object, places: Places, where: str) -> Step:
    """One call, from an entry of `inbound_nodes`.

    Keras 3 stores {"args", "kwargs"}, older Keras nested lists of [name, node, tensor, kwargs].
    Raises Unsupported for arguments that are neither tensors nor defaults.
    """
    given, read = node, _old_tensors
    if is_object(node) and "args" in node:
        _reject_options(as_object(node.get("kwargs", {}), where, "a call's kwargs"), where)
        given, read = node["args"], _tensors
        if is_list(given) and len(given) == 1:
            given = given[0]
    if is_object(given) and "class_name" not in given:
        keys = tuple(sorted(given))
        links = [tuple(read(given[key], places, where, 0)) for key in keys]
        if any(len(one) != 1 for one in links):
            raise Unsupported("a call's argument is not a tensor", where=where, fix="call layers on tensors only")
        return Step(member, call, tuple(one[0] for one in links), keys)
    return Step(member, call, tuple(read(given, places, where, 0)))


def read_ends(value: object, places: Places, where: str, depth: int = 0) -> Iterator[Link]:
    """The tensors in input_layers or output_layers: one, a list, or a dict (read in key order, as Keras does)."""
    if is_object(value) and depth < _DEEPEST:
        for key in sorted(value):
            yield from read_ends(value[key], places, where, depth + 1)
        return
    parts = as_list(value, where, "the list of inputs or outputs")
    if parts and isinstance(parts[0], str):
        yield _link(parts, places, where)
        return
    for part in parts:
        if depth >= _DEEPEST:
            raise damaged(where, "its inputs or outputs are nested too deep")
        yield from read_ends(part, places, where, depth + 1)


def ordered(steps: Sequence[Step], given: Iterable[int], where: str) -> Iterator[Step]:
    """Every step after those that it reads, in file order where free; `given` are the members that are inputs.

    Looks at each connection once. Raises EdgeflowError for a circle and for what does not exist.
    """
    inputs = {(member, 0) for member in given}
    position = {(step.member, step.call): number for number, step in enumerate(steps)}
    readers: list[list[int]] = [[] for _ in steps]
    missing = [0] * len(steps)
    for number, step in enumerate(steps):
        for member, call, _ in step.inputs:
            if (member, call) not in inputs:
                if (member, call) not in position:
                    raise _circle(where)
                readers[position[member, call]].append(number)
                missing[number] += 1
    ready = [number for number, count in enumerate(missing) if count == 0]
    for _ in steps:
        if not ready:
            raise _circle(where)
        number = heapq.heappop(ready)
        yield steps[number]
        for reader in readers[number]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)


def is_tf_add(function: object) -> bool:
    """Whether an operation of older Keras (`TFOpLambda`, made by x + y) is the sum of its tensors."""
    return function in _TF_ADDS


def _reject_options(options: Mapping[str, object], where: str) -> None:
    """Refuses what a call says beyond its tensors, but for None and False (also for each of several inputs)."""
    for key, value in options.items():
        values = value.values() if is_object(value) else value if is_list(value) else (value,)
        if any(one is not None and one is not False for one in values):
            raise Unsupported(
                f"it is called with {shown(key)}={shown(value)}", where=where, fix=f"call it without {shown(key)}"
            )


def _tensors(value: object, places: Places, where: str, depth: int) -> Iterator[Link]:
    if value is None or value is False:
        return
    if is_list(value) and depth < _DEEPEST:
        for one in value:
            yield from _tensors(one, places, where, depth + 1)
        return
    data = as_object(value, where, "a call's argument")
    if data.get("class_name") != "__keras_tensor__":
        raise Unsupported("a call's argument is not a tensor", where=where, fix="call layers on tensors only")
    yield _link(as_object(data.get("config"), where, "a tensor").get("keras_history"), places, where)


def _old_tensors(value: object, places: Places, where: str, depth: int) -> Iterator[Link]:
    parts = as_list(value, where, "a call's argument")
    if parts and isinstance(parts[0], str):
        options = as_object(parts[3] if len(parts) > 3 else {}, where, "a call's kwargs")
        if parts[0].startswith("_CONSTANT"):
            raise Unsupported("a call's argument is not a tensor", where=where, fix="call layers on tensors only")
        yield _link(parts[:3], places, where)
        yield from _second(options, places, where)
        return
    for part in parts:
        if depth >= _DEEPEST:
            raise damaged(where, "a call's arguments are nested too deep")
        yield from _old_tensors(part, places, where, depth + 1)


def _second(options: Mapping[str, object], places: Places, where: str) -> Iterator[Link]:
    """The y of x + y, which older Keras stores as an option."""
    second = options.get("y")
    if is_list(second):
        yield _link(second[:3], places, where)
        options = {key: value for key, value in options.items() if key != "y"}
    _reject_options(options, where)


def _link(value: object, places: Places, where: str) -> Link:
    match value:
        case [str(name), int(node), int(tensor)] if clean_name(name) in places and node >= 0 and tensor >= 0:
            return places[clean_name(name)], int(node), int(tensor)
        case _:
            raise EdgeflowError("damaged or not a Keras model: a connection leads nowhere", where=where)


def _circle(where: str) -> EdgeflowError:
    return damaged(where, "its layers form a circle or read what does not exist")
