"""What a calibration cost, for people: accuracy, agreement and noise, and what to do next."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from edgeflow.report.inspect.words import plural
from edgeflow.report.terminal import line, table
from edgeflow.train.calibrate import RECORD, VECTORS, Quantized


def show_quantized(console: Console, found: Quantized, output: Path, *, explain: bool) -> None:
    """The whole answer; `explain` adds a line a layer."""
    options = found.options
    scales = "power-of-two scales" if options.power_of_two else "one scale a layer" if options.per_tensor else ""
    scales = scales or "one scale an output channel"
    rows = [
        ["calibrated on", f"{plural(found.calibrated, 'sample')}, ranges by {options.method}"],
        ["weights", f"int{options.bits}, {scales}"],
        ["values", f"int{options.activation_bits}"],
    ]
    table(console, rows)
    line(console, "")
    table(console, _measured(found), right=frozenset({1, 2, 3}))
    if explain:
        line(console, "")
        show_layers(console, found)
    if found.notes:
        line(console, "")
        for one in found.notes:
            line(console, f"  note: {one}")
    line(console, "")
    line(console, f"  wrote {output}: model.json, weights.npz, {VECTORS}, {RECORD}")
    line(console, f"  next: edgeflow build {output} --board nucleo-f446re -o firmware")
    line(console, f"        edgeflow verify firmware --vectors {output / VECTORS}")


def _measured(found: Quantized) -> list[list[str]]:
    measured = found.measured
    kind, more = ("held-out sample", "") if found.held_out else ("sample", ", calibrated on the same")
    rows = [["", "float", "integers", "change", f"on {plural(measured.samples, kind)}{more}"]]
    if measured.float_accuracy is not None and measured.accuracy is not None:
        change = f"{measured.change:+.2f} points"
        rows.append(["accuracy", _percent(measured.float_accuracy), _percent(measured.accuracy), change, ""])
    for one in measured.outputs:
        name = f" of '{one.name}'" if len(measured.outputs) > 1 else ""
        if one.agreement is not None:
            rows.append([f"same decision{name}", "", _percent(one.agreement), "", ""])
        rows.append([f"signal over noise{name}", "", show_decibels(one.decibels), "", ""])
    return rows


def show_layers(console: Console, found: Quantized) -> None:
    """A line a layer: the noise that it adds, and what has gathered; the costliest is marked."""
    costliest = found.costliest
    rows = [["layer", "adds", "gathered", ""]]
    for one in found.layers:
        mark = "adds the most noise" if one is costliest else ""
        rows.append([one.layer, show_decibels(one.added), show_decibels(one.total), mark])
    table(console, rows, right=frozenset({1, 2}))
    line(console, "  signal over noise: more is better, 6 dB are one bit")


def show_decibels(value: float | None) -> str:
    """`39.2 dB`, or `exact`."""
    return "exact" if value is None else f"{value:.1f} dB"


def _percent(share: float) -> str:
    return f"{share * 100:.2f} %"
