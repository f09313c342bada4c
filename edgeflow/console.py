"""What every command shares: its options, the form of its answers, and how an error becomes a message."""

from __future__ import annotations

import errno
import json as json_module
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from edgeflow.errors import EdgeflowError


class Commands(TyperGroup):
    """Turns what a command raises into a message and an exit code. No traceback reaches a user."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        as_json = "--json" in sys.argv
        try:
            return super().invoke(ctx)
        except EdgeflowError as error:
            _fail(error, as_json)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            sys.stderr.write("\nstopped: nothing is half-written; the same command goes on from here\n")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except MemoryError:
            _fail(EdgeflowError("out of memory", fix="use a smaller model, or fewer samples at a time"), as_json)
            raise typer.Exit(2) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if os.environ.get("EDGEFLOW_DEBUG") or _is_usage(error):
                raise
            _fail(_internal(error), as_json)
            raise typer.Exit(2) from None


def _is_usage(error: Exception) -> bool:
    """Whether the argument parser raised it: it shows such errors itself, with exit code 2."""
    return hasattr(error, "exit_code") and hasattr(error, "format_message")


Q = TypeVar("Q", bound=float)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results: no progress.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output folder of edgeflow's, with all in it.")]
BoardName = Annotated[str, typer.Option("--board", "-b", help="A board's name (edgeflow boards) or a .toml file.")]
BackendName = Annotated[str, typer.Option("--backend", help="What to generate: c, tflm or hls4ml.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Backend option NAME=VALUE: c prefix, stack, validation, optimize; tflm prefix, kernels, int4."
    ),
]
Optimized = Annotated[
    str | None,
    typer.Option(
        "--optimize",
        metavar="AIM",
        help="What backend c is best at: size (weights of up to 6 bits packed), balanced (up to 4 bits), or speed.",
    ),
]
Latency = Annotated[str | None, typer.Option("--latency", help='Longest time of one inference, such as "50 ms".')]
Ram = Annotated[str | None, typer.Option("--ram", help='RAM that the model may use, such as "16 KiB".')]
Flash = Annotated[str | None, typer.Option("--flash", help='Flash that the model may use, such as "64 KiB".')]
EXISTS = "A model file (.keras, .h5, .json, .tflite), an imported folder or a built one."
Declared = Annotated[
    str | None,
    typer.Option("--input", metavar="QUANTIZER", help="What the data is, where no layer quantizes an input."),
]
Weights = Annotated[Path | None, typer.Option("--weights", help="The weights (.h5) of an architecture in .json.")]


def _internal(error: Exception) -> EdgeflowError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return EdgeflowError("cannot write: no space left on the device", fix="free some space")
    return EdgeflowError(
        f"internal error, a bug in edgeflow: {type(error).__name__}: {error}",
        fix="report it with what EDGEFLOW_DEBUG=1 prints for the same command",
    )


def _fail(error: EdgeflowError, as_json: bool) -> None:
    if as_json:
        print_json({"error": {"what": error.what, "where": error.where, "fix": error.fix}})
        return
    from edgeflow.report.terminal import show_error

    show_error(open_console(error=True), error)


def open_console(*, error: bool = False) -> Any:
    """Where a command shows its answer; with `error` its errors and progress."""
    from rich.console import Console

    class Plain(Console):
        """Leaves a closed pipe to `Commands`; rich would end with exit code 1, which means no."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Plain(stderr=error, highlight=False)


def say(text: str) -> None:
    """One line of an answer."""
    print(text)  # noqa: T201 - a command's answer goes to standard output


def print_json(data: object) -> None:
    """The answer of a command with --json."""
    say(json_module.dumps(data, indent=2, ensure_ascii=False))


def answer(yes: bool) -> None:
    """Ends a command whose answer may be no."""
    if not yes:
        raise typer.Exit(1)


def with_aim(pairs: list[str] | None, aim: str | None) -> list[str] | None:
    """What --set gives and, where it is named, the aim of --optimize as the option that it is."""
    return pairs if aim is None else [*(pairs or ()), f"optimize={aim}"]


def backend_settings(pairs: list[str] | None) -> dict[str, object]:
    """What --set gives, by name. Raises EdgeflowError for anything but NAME=VALUE."""
    found: dict[str, object] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise EdgeflowError(f'--set takes NAME=VALUE, not "{pair}"', fix="for example --set stack=1024")
        found[name] = value
    return found


def model_options(weights: Path | None, declared: str | None) -> str:
    """The options that a model file was read with, for the next command."""
    given = "" if weights is None else f" --weights {quoted(weights)}"
    return given if declared is None else f'{given} --input "{declared}"'


def quoted(path: Path | str) -> str:
    """A path as one word of a command that is shown to be copied into a shell."""
    return shlex.quote(str(path))


def budget_limits(latency: str | None, ram: str | None, flash: str | None) -> Any:
    """The user's own budget. Raises EdgeflowError for a text that is no amount."""
    from edgeflow.budget import Limits
    from edgeflow.units import parse_bytes, parse_seconds

    return Limits(
        flash=_amount("--flash", flash, parse_bytes, "64 KiB"),
        ram=_amount("--ram", ram, parse_bytes, "16 KiB"),
        latency=_amount("--latency", latency, parse_seconds, "50 ms"),
    )


def _amount(option: str, text: str | None, parse: Callable[[str], Q], example: str) -> Q | None:
    if text is None:
        return None
    fix = f'write a number above 0 and a unit: {option} "{example}"'
    try:
        amount = parse(text)
    except ValueError as error:
        raise EdgeflowError(f"{option}: {error}", fix=fix) from None
    if amount <= 0:
        raise EdgeflowError(f"{option} is zero", fix=fix)
    return amount


def verdict_json(verdict: Any) -> dict[str, object]:
    """A board's verdict as data."""
    from edgeflow.report.record import budget_record, to_json

    return {
        "board": verdict.board.name,
        "fits": verdict.fits,
        "certain": verdict.certain,
        "budget": to_json(tuple(budget_record(one) for one in verdict.lines)),
        "costly": to_json(verdict.costly),
        "remedies": to_json(verdict.remedies),
        "larger_board": verdict.larger_board,
        "memory": to_json(verdict.memory),
    }
