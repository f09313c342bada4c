"""Which stored array belongs to which layer, for each way in which Keras lays weights out in a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from edgeflow.frontends.qkeras.calls import clean_name
from edgeflow.frontends.qkeras.content import Float32Array, StoredArray, damaged
from edgeflow.frontends.qkeras.structure import Leaf

_LISTS = ("layers", "_layer_checkpoint_dependencies")
_MOST_PAIRS = 100_000

Path = tuple[str, ...]
Found = dict[int, dict[str, Float32Array]]
"""Each layer's weights, by its index and by their names in the file."""


def find_weights(layout: str, arrays: Sequence[StoredArray], layers: Sequence[Leaf], where: str) -> Found:
    """The weights of every layer that has some; `layout` is a Content's format. Raises EdgeflowError."""
    return _LAYOUTS[layout](arrays, layers, where)


def _by_path(arrays: Sequence[StoredArray], layers: Sequence[Leaf], where: str) -> Found:
    """Groups within groups (`.keras`, `.weights.h5`): by the name stored in a group, else by its numbered class."""
    paths = [tuple(part for part in one.key.split("/") if part not in _LISTS) for one in arrays]
    named: dict[tuple[Path, str], set[Path]] = defaultdict(set)
    for one, path in zip(arrays, paths, strict=True):
        if one.layer is not None:
            named[path[:-1], clean_name(one.layer)].add(path)
    homes: dict[Path, int] = {}
    unnamed: list[Leaf] = []
    for layer in layers:
        found = named.get((layer.keys[:-1], layer.names[-1]), set())
        if len(found) == 1:
            homes[next(iter(found))] = layer.index
        else:
            unnamed.append(layer)
    for layer in unnamed:
        homes.setdefault(layer.keys, layer.index)
    weights: Found = defaultdict(dict)
    for one, path in zip(arrays, paths, strict=True):
        home = next((path[:end] for end in range(len(path), 0, -1) if path[:end] in homes), None)
        if home is not None:
            weights[homes[home]]["/".join((*path[len(home) :], one.slot))] = one.values
    return dict(weights)


def _by_layer(arrays: Sequence[StoredArray], layers: Sequence[Leaf], where: str) -> Found:
    """One group a layer (`.h5`), by its name; a nested model's weights lie flat in the group of the outermost."""
    groups: dict[str, list[StoredArray]] = defaultdict(list)
    for one in arrays:
        groups[clean_name(one.key)].append(one)
    inner: dict[str, list[Leaf]] = defaultdict(list)
    weights: Found = {}
    for layer in layers:
        outermost = layer.names[0]
        if len(layer.names) > 1:
            inner[outermost].append(layer)
        elif outermost in groups:
            weights[layer.index] = _last_parts(groups[outermost])
    for name, nested in inner.items():
        weights |= _nested(groups.get(name, []), nested, where)
    return weights


def _nested(arrays: Sequence[StoredArray], layers: Sequence[Leaf], where: str) -> Found:
    """Pairs the weights of a nested model with its layers: the name in a weight's path, then the scopes around it.

    The order alone would not do: Keras lists trainable weights first. Among equals, the order of both decides.
    """
    by_name: dict[str, list[Leaf]] = defaultdict(list)
    for layer in layers:
        by_name[layer.names[-1]].append(layer)
    stems: dict[Path, list[StoredArray]] = defaultdict(list)
    for one in arrays:
        parts = tuple(clean_name(part) for part in one.slot.split("/"))[:-1]
        end = next((end for end in range(len(parts), 0, -1) if parts[end - 1] in by_name), 0)
        stems[parts[:end]].append(one)
    stems.pop((), None)
    if sum(len(by_name[stem[-1]]) for stem in stems) > _MOST_PAIRS:
        raise damaged(where, "too many of its layers have one name")
    pairs = sorted(
        (*_strangeness(stem[:-1], layer.names[:-1]), number, layer.index, stem)
        for number, stem in enumerate(stems)
        for layer in by_name[stem[-1]]
    )
    weights: Found = {}
    taken: set[Path] = set()
    for _, _, _, index, stem in pairs:
        if stem not in taken and index not in weights:
            taken.add(stem)
            weights[index] = _last_parts(stems[stem])
    return weights


def _strangeness(scopes: Path, models: Path) -> tuple[int, int]:
    """How badly the scopes around a weight fit the models around a layer: minus those that fit, those that do not."""
    left, fits = list(models), 0
    for scope in reversed(scopes):
        if scope in left:
            while left.pop() != scope:
                pass
            fits += 1
    return -fits, len(scopes) - fits


def _last_parts(arrays: Sequence[StoredArray]) -> dict[str, Float32Array]:
    """By the last part of each path; by the whole path where that is taken."""
    found: dict[str, Float32Array] = {}
    for one in arrays:
        last = one.slot.rpartition("/")[2]
        found[one.slot if last in found else last] = one.values
    return found


_LAYOUTS: Mapping[str, Callable[[Sequence[StoredArray], Sequence[Leaf], str], Found]] = {
    "keras": _by_path,
    "h5": _by_layer,
}
