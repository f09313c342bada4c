"""Calm, aligned text for people: verdicts, comparisons, boards, graphs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from edgeflow.backends import BACKENDS
from edgeflow.board import Board, FpgaBoard, McuBoard
from edgeflow.budget import Verdict
from edgeflow.conformance import Comparison
from edgeflow.errors import EdgeflowError, printable
from edgeflow.report.record import (
    BudgetRecord,
    ComparisonRecord,
    MismatchRecord,
    RunRecord,
    StepRecord,
    TargetRecord,
    budget_record,
)
from edgeflow.resource import Finding
from edgeflow.units import show_bytes, show_count, show_hertz, show_seconds

_MOST_NAMES = 4
_MANY_MOVED = 0.01
"""The share of decisions that a target may change before a warning says so."""
_DOUBT = ", but closer to the limit than the estimate is sure"
_SHOW = {"B": show_bytes, "s": show_seconds, "Hz": show_hertz}


def show_value(value: float, unit: str) -> str:
    """A number with its unit: `31.2 kB`, `14.0 ms`, `1,310,442`."""
    return _SHOW.get(unit, show_count)(value)


def line(console: Console, text: str, *, style: str | None = None) -> None:
    """One line exactly as given: no markup, no wrapping."""
    console.print(Text(printable(text), style=style or ""), soft_wrap=True)


def table(console: Console, rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    """Rows in aligned columns, two spaces in. Columns in `right` are aligned to the right."""
    cells = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))] if cells else []
    for row in cells:
        parts = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line(console, "  " + "   ".join(parts).rstrip())


def show_error(console: Console, error: EdgeflowError) -> None:
    """What, where, fix: one to three lines."""
    console.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)


def board_line(console: Console, board: Board) -> None:
    """`rpi-pico  Raspberry Pi Pico · RP2040 · Cortex-M0+ 125 MHz`."""
    line(console, f"{board.name}  {board.title} · {board.chip}{_core_of(board)}")


def _core_of(board: Board) -> str:
    core = f"{board.core.title} " if isinstance(board, McuBoard) else ""
    clock = show_hertz(board.clock) if isinstance(board, McuBoard | FpgaBoard) else ""
    return f" · {core}{clock}"


def show_budget(console: Console, lines: Sequence[BudgetRecord]) -> None:
    """The budget table."""
    rows = [["budget", "used", "available", "used %", "source"]]
    for one in lines:
        has = "no limit" if one.available is None else show_value(one.available, one.unit)
        percent = "" if one.percent is None else "<1 %" if 0 < one.percent < 1 else f"{one.percent:.0f} %"
        rows.append([one.name, show_value(one.used, one.unit), has, percent, one.source])
    table(console, rows, right=frozenset({1, 2, 3}))


def show_verdict(console: Console, verdict: Verdict, next_command: str | None = None) -> None:
    """The whole answer for one board."""
    board_line(console, verdict.board)
    line(console, "")
    show_budget(console, [budget_record(one) for one in verdict.lines])
    line(console, "")
    doubt = "" if verdict.certain else _DOUBT
    if verdict.fits:
        text = Text.assemble(("  FITS", "bold green"), doubt)
        if next_command:
            text.append(f"   next: {next_command}")
        console.print(text, soft_wrap=True)
        return
    failing = [one for one in verdict.lines if not one.fits]
    names = ", ".join(f"{one.name} {_over(one.used, one.available or 0.0, one.unit.value)}" for one in failing)
    console.print(Text.assemble(("  DOES NOT FIT", "bold red"), f"   {names}{doubt}"), soft_wrap=True)
    _show_cost(console, verdict)


_NAME, _BAR, _MOST_MOMENTS = 24, 30, 40
_TOGETHER = "\N{NO-BREAK SPACE}"


def show_memory(console: Console, verdict: Verdict) -> None:
    """The map of RAM over time: a line and a bar a layer, and what is alive at the fullest moment."""
    memory = verdict.memory
    if memory is None or not memory.moments:
        return
    peak = memory.peak
    rows = [["RAM over time", "alive", f"of an arena of {memory.size:,} B"]]
    chosen = memory.moments
    if len(chosen) > _MOST_MOMENTS:
        least = sorted((one.used for one in chosen), reverse=True)[_MOST_MOMENTS - 1]
        chosen = tuple(one for one in chosen if one.used >= least)[:_MOST_MOMENTS]
    for one in chosen:
        bar = "#" * max(1, round(_BAR * one.used / memory.size))
        rows.append([shortened(one.layer, _NAME), f"{one.used:,} B", bar + (" peak" if one is peak else "")])
    table(console, rows, right=frozenset({1}))
    if len(chosen) < len(memory.moments):
        line(console, f"  and {len(memory.moments) - len(chosen)} layers that need less")
    held = [f"{shortened(one.what, _NAME)} {one.size:,} B".replace(" ", _TOGETHER) for one in peak.held]
    line(console, f"  alive at the peak, in '{shortened(peak.layer, _NAME)}':")
    for text in textwrap.wrap(", ".join(held), 74, break_long_words=False, break_on_hyphens=False):
        line(console, f"    {text.replace(_TOGETHER, ' ')}")
    if any(one.calls > 1 for one in memory.moments):
        line(console, "  layers run by rows, in turn: each line is a layer's fullest moment")
    line(console, f"  no plan for this order of calls needs less than {memory.lower_bound:,} B")
    line(console, "")


def shortened(text: str, most: int) -> str:
    """A name of at most `most` characters: its two ends."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}..{text[-(most - most // 2 - 1) :]}"


def _over(used: float, available: float, unit: str) -> str:
    return f"is {show_value(used - available, unit)} over"


def _show_cost(console: Console, verdict: Verdict) -> None:
    if verdict.costly:
        line(console, "")
        table(
            console,
            [["layers that cost most", "", "", ""]]
            + [
                [f"'{one.layer}'", one.name, show_value(one.value, one.unit.value), one.source.detail]
                for one in verdict.costly
            ],
            right=frozenset({2}),
        )
    units = {one.name: one.unit.value for one in verdict.lines}
    rows = [
        [
            one.change,
            f"{one.resource} {show_value(one.value, units[one.resource])}",
            "train to know" if one.retrain else "unchanged",
        ]
        for one in verdict.remedies
    ]
    if verdict.larger_board:
        rows.append([f"a larger board: {verdict.larger_board}", "fits", "unchanged"])
    line(console, "")
    if rows:
        table(console, [["what would make it fit, or nearer to it", "", "accuracy"], *rows])
    else:
        line(console, "  no known board fits it: make the model smaller")


def show_findings(console: Console, findings: Iterable[Finding]) -> None:
    """What a backend cannot do."""
    for one in findings:
        where = f": layer '{one.layer}'" if one.layer else ""
        fix = f"\n  fix: {one.fix}" if one.fix else ""
        console.print(
            Text.assemble((f"{one.severity.value}: ", "bold red"), f"{printable(one.what + where)}{fix}"),
            soft_wrap=True,
        )


def show_comparisons(
    console: Console, samples: int, reference: ComparisonRecord | None, targets: Sequence[TargetRecord]
) -> None:
    """The verification table: every runner against the integer graph."""
    rows = [["integer graph", f"{samples}", "the reference"]]
    if reference and reference.runner != "graph":
        why = why_other(reference)
        told = f"{_differ(reference)}, {why}" if why else _differ(reference)
        rows.insert(0, [reference.title, f"{reference.samples}", told])
    for one in targets:
        count = next((r.value for r in one.resources if r.name == "instructions"), None)
        extra = f"   {count:,.0f} instructions each" if count else ""
        spent = next((r.value for r in one.resources if r.name == "cycles" and r.layer is None), None)
        extra += f"   {spent:,.0f} cycles each" if spent else ""
        if one.moved is not None:
            extra += f"   {moved_text(one)}"
        rows.append([one.title, f"{one.samples}", _differ(one) + extra])
    table(console, rows, right=frozenset({1}))
    everything = ([reference] if reference else []) + list(targets)
    wrong = [one for one in everything if not (one.agrees if isinstance(one, ComparisonRecord) else one.bit_exact)]
    if not wrong:
        console.print(Text("  bit-exact", style="bold green"))
        for one in targets:
            _warn_of_decisions(console, one)
        return
    for one in wrong:
        told = f": first at {printable(mismatch_text(one.first_mismatch, one.title))}" if one.first_mismatch else ""
        console.print(Text.assemble(("  NOT bit-exact", "bold red"), told), soft_wrap=True)


def _warn_of_decisions(console: Console, one: TargetRecord) -> None:
    """Says so where a target computes its own integers exactly, and these decide otherwise than the model's."""
    if not one.decisions_moved or one.decisions_moved <= one.samples * _MANY_MOVED:
        return
    told = (
        f"{printable(one.title)} decides otherwise than the model in {one.decisions_moved} of {one.samples} samples:"
        f" its arithmetic or its output's unit is coarser\n  fix: build --backend c, which computes the model's own"
        " integers"
    )
    console.print(Text.assemble(("  warning: ", "bold yellow"), told), soft_wrap=True)


def show_cycles(console: Console, targets: Sequence[TargetRecord]) -> None:
    """What each layer took on a board that measured it, in order, and its share."""
    for one in targets:
        layers = [(r.layer, r.value) for r in one.resources if r.name == "cycles" and r.layer is not None]
        total = sum(value for _, value in layers)
        if not total:
            continue
        line(console, "")
        shares = [[f"'{name}'", f"{value:,.0f}", f"{100 * value / total:.1f} %"] for name, value in layers]
        table(console, [[one.title, "cycles", "share"], *shares], right=frozenset({1, 2}))
        source = next(r.source for r in one.resources if r.layer is not None)
        line(console, f"  {source}")


def show_compiled(console: Console, ran: Comparison) -> None:
    """What compiling and running once said: samples, differences and the runner's own figures."""
    count = next((one.value for one in ran.resources if one.name == "instructions"), None)
    extra = f"   {count:,.0f} instructions each" if count else ""
    differ = f"{ran.mismatches} of {ran.values} values differ{extra}"
    table(console, [["integer graph", f"{ran.samples}", "the reference"], [ran.title, f"{ran.samples}", differ]])
    style = "bold green" if ran.bit_exact else "bold red"
    console.print(Text("  bit-exact" if ran.bit_exact else "  NOT bit-exact", style=style))
    line(console, "")


def mismatch_text(first: MismatchRecord, title: str) -> str:
    """Layer, sample, element and both integers."""
    got = "no integer of its unit" if first.got is None else str(first.got)
    return (
        f"layer '{first.layer}', sample {first.sample}, element {first.element}: graph {first.expected}, {title} {got}"
    )


def why_other(reference: ComparisonRecord) -> str:
    """What stands behind predict's differences from a graph of real arithmetic; "" where there are none."""
    if reference.judged is None or not (reference.mismatches or reference.unexplained):
        return ""
    moved = f"{reference.decisions} of {reference.samples} decisions"
    if not reference.judged:
        return f"{moved}; vectors of edgeflow predict would tell whether float32's rounding explains them"
    if reference.unexplained:
        return f"{moved}; {reference.unexplained} values lie beyond float32's rounding error"
    names = ", ".join(f"'{name}'" for name in reference.layers[:_MOST_NAMES])
    more = " ..." if len(reference.layers) > _MOST_NAMES else ""
    return f"{moved}; all within float32's rounding error, in {printable(names)}{more}"


def moved_text(one: TargetRecord) -> str:
    """What a target's own arithmetic changed; a decision can move without an output, by the output's coarser unit."""
    outputs = f"{one.moved} of {one.values} outputs"
    return (
        f"its own rounding moved {outputs}, that and its output's unit {one.decisions_moved} of {one.samples} decisions"
    )


def _differ(one: ComparisonRecord | TargetRecord) -> str:
    return f"{one.mismatches} of {one.values} values differ"


def show_steps(console: Console, steps: Sequence[StepRecord]) -> None:
    """Accuracy and size, step by step."""
    rows = [["step", "accuracy", "parameters", "weight bits", "zeros"]]
    for one in steps:
        rows.append(
            [
                one.name,
                "" if one.accuracy is None else f"{one.accuracy * 100:.2f} %",
                "" if one.parameters is None else f"{one.parameters:,}",
                "" if one.weight_bits is None else f"{one.weight_bits:,}",
                "" if one.sparsity is None else f"{one.sparsity * 100:.0f} %",
            ]
        )
    table(console, rows, right=frozenset({1, 2, 3, 4}))


def show_record(console: Console, record: RunRecord) -> None:
    """A whole run.json."""
    line(console, f"{record.name}  edgeflow {record.edgeflow}")
    if any(one.known for one in record.steps):
        line(console, "")
        show_steps(console, record.steps)
    for (title, backend), group in _by_target(record.targets).items():
        line(console, "")
        line(console, f"{title} · backend {backend}")
        samples = group[0].samples
        show_comparisons(console, samples, record.reference, group)
        show_cycles(console, group)
        budget = next((one.budget for one in group if one.budget), ())
        if budget:
            line(console, "")
            show_budget(console, budget)
            fits = all(one.fits is not False for one in group)
            answer = Text("  FITS" if fits else "  DOES NOT FIT", style="bold green" if fits else "bold red")
            if not all(one.certain for one in budget):
                answer.append(_DOUBT, style="not bold default")
            console.print(answer, soft_wrap=True)
    show_skipped(console, record.skipped)


def show_skipped(console: Console, skipped: Sequence[str]) -> None:
    """Runners that could not run, and why."""
    for one in skipped:
        line(console, f"  not run: {one}")


def _by_target(targets: Iterable[TargetRecord]) -> dict[tuple[str, str], list[TargetRecord]]:
    groups: dict[tuple[str, str], list[TargetRecord]] = {}
    for one in targets:
        groups.setdefault((f"{one.board}  {one.board_title}", one.backend), []).append(one)
    return groups


def show_run_end(console: Console, output: Path, record: RunRecord) -> None:
    """What a run wrote and what to try next."""
    line(console, "")
    names = {one.path: BACKENDS[one.backend].product for one in record.targets if one.backend in BACKENDS}
    rows = [[path, product] for path, product in names.items()]
    rows.append([str(output / "report.html"), "everything on one page"])
    rows.append([str(output / "run.json"), "the same for programs"])
    table(console, [["wrote", ""], *rows])
    first = next(iter(names), None)
    if first:
        line(console, "")
        line(console, f"  next: edgeflow verify {first} --vectors {output / 'vectors.npz'}")


def show_boards(console: Console, boards: Sequence[Board]) -> None:
    """A line a board, microcontrollers first."""
    rows = [["microcontroller", "", "core", "clock", "flash", "RAM"]]
    for one in boards:
        if isinstance(one, McuBoard):
            clock = show_hertz(one.clock)
            rows.append([one.name, one.title, one.core.title, clock, show_bytes(one.flash), show_bytes(one.ram)])
    table(console, rows, right=frozenset({3, 4, 5}))
    rows = [["FPGA", "", "chip", "LUT", "FF", "DSP", "BRAM"]]
    for one in boards:
        if isinstance(one, FpgaBoard):
            figures = [show_count(value) for value in (one.luts, one.ffs, one.dsps, one.brams)]
            rows.append([one.name, one.title, one.chip, *figures])
    if len(rows) > 1:
        line(console, "")
        table(console, rows, right=frozenset({3, 4, 5, 6}))
    line(console, "")
    line(console, "  next: edgeflow check student.keras --board NAME")


def show_board(console: Console, board: Board) -> None:
    """One board, every figure with its source."""
    board_line(console, board)
    line(console, "")
    rows = [["figure", "value", "source"]]
    rows += [[name, value, str(board.sources.get(name, ""))] for name, value in _figures(board)]
    table(console, rows)
    for region in board.memories if isinstance(board, McuBoard) else ():
        if region.note:
            line(console, f"  {region.name}: {region.note}")


def _figures(board: Board) -> list[tuple[str, str]]:
    if isinstance(board, McuBoard):
        memories = [(one.name, f"{show_bytes(one.size)} at 0x{one.origin:08x}") for one in board.memories]
        return [("core", board.core.title), ("clock", show_hertz(board.clock)), *memories]
    if isinstance(board, FpgaBoard):
        counts = {"luts": board.luts, "ffs": board.ffs, "dsps": board.dsps, "brams": board.brams}
        named = [(name, show_count(value)) for name, value in counts.items()]
        return [("part", board.part), ("clock", show_hertz(board.clock)), *named]
    return []
