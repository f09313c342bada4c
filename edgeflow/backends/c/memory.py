"""RAM over time: what lies where in the arena at each call, and at each layer's fullest moment."""

from __future__ import annotations

from collections.abc import Iterator

from edgeflow.backends.c.coded import CodeKernel
from edgeflow.backends.c.emit import Emitted
from edgeflow.backends.c.objects import Kind, Object
from edgeflow.resource import Held, MemoryMap, Moment, Placed


def memory_map(emitted: Emitted) -> MemoryMap:
    """The map of a plan: exact, since every byte of an inference but the stack is planned."""
    plan = emitted.plan
    runs = plan.schedule.runs
    kernels = [one for one in emitted.kernels if runs[one.name]]
    moments: list[Moment] = []
    for kernel in sorted(kernels, key=lambda one: runs[one.name][0]):
        fullest = max(runs[kernel.name], key=lambda task: _occupied(emitted, task))
        held = _held(emitted, fullest)
        moments.append(Moment(kernel.layer, _occupied(emitted, fullest), len(runs[kernel.name]), held))
    layers = {one.name: one.layer for one in emitted.kernels}
    calls = tuple(layers[plan.schedule.flow.steps[task.step].name] for task in plan.tasks())
    return MemoryMap(plan.size, plan.lower_bound, tuple(moments), calls, _placed(emitted))


def _placed(emitted: Emitted) -> tuple[Placed, ...]:
    """Every part of every object, by time; parts of one owner and one life that lie side by side are one."""
    plan = emitted.plan
    parts = sorted(
        (span.born, span.last, _shown(emitted, one), at + span.offset, span.size)
        for one, at in zip(plan.schedule.objects, plan.placement.offsets, strict=True)
        for span in one.spans
    )
    found: list[Placed] = []
    for born, last, what, offset, size in parts:
        before = found[-1] if found else None
        if before and before == Placed(what, before.offset, offset - before.offset, born, last):
            found[-1] = Placed(what, before.offset, before.size + size, born, last)
        else:
            found.append(Placed(what, offset, size, born, last))
    return tuple(found)


def _alive(emitted: Emitted, task: int) -> Iterator[tuple[Object, int, int]]:
    """Objects with the first byte and the byte behind the last of each part that is alive."""
    plan = emitted.plan
    for one, at in zip(plan.schedule.objects, plan.placement.offsets, strict=True):
        for span in one.spans:
            if span.born <= task <= span.last:
                yield one, at + span.offset, at + span.offset + span.size


def _occupied(emitted: Emitted, task: int) -> int:
    """Bytes of the arena that hold something while a task runs."""
    total = reached = 0
    for first, end in sorted((first, end) for _, first, end in _alive(emitted, task)):
        total += max(0, end - max(first, reached))
        reached = max(reached, end)
    return total


def _held(emitted: Emitted, task: int) -> tuple[Held, ...]:
    """What is alive, by owner, the largest first."""
    sizes: dict[str, int] = {}
    for one, first, end in _alive(emitted, task):
        name = _shown(emitted, one)
        sizes[name] = sizes.get(name, 0) + end - first
    return tuple(Held(name, size) for name, size in sorted(sizes.items(), key=lambda one: (-one[1], one[0])))


def _shown(emitted: Emitted, one: Object) -> str:
    """An object's owner for people: a tensor under its layer's name, unless that layer makes several.

    One that is kept packed says so.
    """
    if one.kind is not Kind.ROWS:
        return "working memory"
    makers = {kernel.y.tensor: kernel.layer for kernel in emitted.kernels if not isinstance(kernel, CodeKernel)}
    layer = makers.get(one.owner)
    name = one.owner.removeprefix("\0")
    shown = name if layer is None or list(makers.values()).count(layer) > 1 else layer
    coding = emitted.lowered.buffers[one.owner].coding
    shown = shown.removesuffix(" packed") if one.owner.startswith("\0") else shown
    return f"{shown} ({coding.bits} bit{'s' if coding.bits > 1 else ''} a value)" if coding else shown
