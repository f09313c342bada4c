"""Inspections and explanations as calm, aligned text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from edgeflow.report.inspect.arithmetic import Arithmetic
from edgeflow.report.inspect.explain import Explanation
from edgeflow.report.inspect.inspection import Inspection, Port, Row, Totals
from edgeflow.report.inspect.stored import Quantizer, Weights
from edgeflow.report.inspect.words import interval_words, number, plural, shape_words
from edgeflow.report.terminal import line, table
from edgeflow.units import show_bytes

_HEAD = ["layer", "became", "output", "interval", "bits", "weights", "zeros", "sum", "MACs", "parameters"]


def show_inspection(console: Console, found: Inspection, follow: str) -> None:
    """Header, one row a layer, totals, notes. `follow` is the command to try next."""
    line(console, f"{found.name}  {plural(len(found.rows), 'layer')}, {found.meaning}")
    line(console, "")
    table(console, [_port(one) for one in found.ports])
    line(console, "")
    table(console, [_HEAD, *(_row(row) for row in found.rows)], right=frozenset({4, 5, 6, 7, 8, 9}))
    line(console, "")
    table(console, list(_totals(found.totals)))
    if found.notes:
        line(console, "")
    for note in found.notes:
        line(console, f"  note: {note}")
    line(console, "")
    line(console, f"  next: {follow}")


def _port(one: Port) -> list[str]:
    real = f"{number(one.real_lo)} to {number(one.real_hi)}"
    return [one.role, one.name, shape_words(one.shape), one.type, one.step, real]


def _row(row: Row) -> list[str]:
    return [
        row.layer,
        row.kind,
        shape_words(row.shape),
        interval_words(row.lo, row.hi),
        str(row.bits),
        _bits(row.weight_bits),
        _share(row.sparsity),
        _bits(row.accumulator_bits),
        f"{row.macs:,}" if row.macs else "",
        f"{row.parameters:,}" if row.parameters else "",
    ]


def _bits(bits: int | None) -> str:
    return "" if bits is None else f"{bits} bits"


def _share(part: float | None) -> str:
    return "" if part is None else f"{part * 100:.0f} %"


def _totals(totals: Totals) -> Iterator[list[str]]:
    yield ["parameters", f"{totals.parameters:,}", f"{_share(totals.sparsity) or '0 %'} of the weights are zero"]
    if totals.table_entries:
        yield ["table entries", f"{totals.table_entries:,}", ""]
    stored = f"{show_bytes(totals.weight_bytes)} as integers of 8, 16 or 32 bits"
    yield ["weight bits", f"{totals.weight_bits:,}", stored]
    yield ["MACs", f"{totals.macs:,}", "one sample, padding taps counted"]
    if totals.accumulator_bits is not None:
        yield ["widest sum", f"{totals.accumulator_bits} bits", "at every step, in any order"]
    alive = " + ".join(f"'{name}'" for name in totals.activation_peak)
    yield ["activations", show_bytes(totals.activation_bytes), f"at most alive together: {alive}"]


def show_explanation(console: Console, found: Explanation) -> None:
    """What the file stores, then every step with its facts and arithmetic."""
    line(console, f"{found.name}  {found.keras_class or found.remark or 'from the integer graph alone'}")
    if found.keras_class and found.remark:
        line(console, f"  {found.remark}")
    for one in found.weights:
        line(console, "")
        _show_weights(console, one)
    for one in found.quantizers:
        line(console, "")
        _show_quantizer(console, one)
    for step in found.steps:
        line(console, "")
        line(console, f"{step.op}  '{step.tensor}'")
        table(console, [list(fact) for fact in step.facts])
        if step.arithmetic:
            _show_arithmetic(console, step.arithmetic)


def _show_quantizer(console: Console, one: Quantizer) -> None:
    line(console, f"{one.role}  {one.stored}")
    for formula in one.formula:
        line(console, f"  {formula}")


def _show_weights(console: Console, one: Weights) -> None:
    _show_quantizer(console, one.quantizer)
    rows = [["", "at", "stored float32", "code", "value", "off by"]]
    for example in one.examples:
        place = ", ".join(map(str, example.place))
        rows.append(
            [
                example.what,
                f"[{place}]",
                f"{example.stored:.9g}",
                str(example.code),
                f"{example.value:.9g}",
                f"{example.steps:+.3f} steps",
            ]
        )
    table(console, rows, right=frozenset({2, 3, 4, 5}))
    line(
        console,
        f"  {shape_words(one.shape)}: codes in {interval_words(one.lo, one.hi)}, {plural(one.zeros, 'zero')}, "
        f"{one.unit}; off by at most {one.worst_steps:.3f} steps, {one.beyond:,} by more than half a step",
    )


def _show_arithmetic(console: Console, found: Arithmetic) -> None:
    for name, formula, remark in found.lines:
        line(console, f"  {name} = {formula}" + (f"   {remark.removeprefix('; ')}" if remark else ""))
    line(console, f"  ties: {found.ties}")
    rows = [["", "at", "x", "means", *(name for name, _, _ in found.lines), "means"]]
    for one in found.examples:
        values = {"p": one.product, "y": one.y} | dict(zip("qr", one.shifted, strict=False))
        place = ", ".join(map(str, one.place))
        numbers = [str(values[name]) for name, _, _ in found.lines]
        rows.append([one.what, f"[{place}]", str(one.x), number(one.x_real), *numbers, number(one.y_real)])
    table(console, rows, right=frozenset(range(2, 5 + len(found.lines))))
