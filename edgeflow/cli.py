"""The command line: reads arguments, calls the pipeline, shows what it answers."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeflow import __version__
from edgeflow.console import (
    EXISTS,
    BackendName,
    BoardName,
    Commands,
    Declared,
    Flash,
    Force,
    Json,
    Latency,
    Optimized,
    Quiet,
    Ram,
    Settings,
    Weights,
    answer,
    backend_settings,
    budget_limits,
    model_options,
    open_console,
    print_json,
    quoted,
    say,
    verdict_json,
    with_aim,
)
from edgeflow.errors import EdgeflowError

app = typer.Typer(
    name="edgeflow",
    cls=Commands,
    help="One trained model, every board, the same integers, proven bit for bit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The program. Exit codes: 0 fine; 1 the answer is no; 2 bad input or a missing tool; 130 Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()


def _version(shown: bool) -> None:
    if shown:
        say(f"edgeflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Every command has --help with an example, and --json."""


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The recipe, edgeflow.toml.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again, even if nothing changed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace firmware folders that you have changed.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train, import, build and verify everything that a recipe names.

    Example: `edgeflow run examples/digits/edgeflow.toml`
    """
    from edgeflow import pipeline
    from edgeflow.report.progress import watcher
    from edgeflow.report.record import to_json
    from edgeflow.train.recipe import load_config

    console = open_console()
    chosen = load_config(config)
    with watcher(console, quiet=quiet or json) as seen:
        record = pipeline.run(chosen, seen, fresh=fresh, force=force)
    if json:
        print_json(to_json(record))
    else:
        from edgeflow.report.terminal import show_record, show_run_end

        show_record(console, record)
        show_run_end(console, chosen.output, record)
    answer(record.bit_exact and record.fits)


@app.command()
def check(
    model: Annotated[Path, typer.Argument(help=f"{EXISTS} Or a recipe, .toml: its untrained student.")],
    weights: Weights = None,
    declared: Declared = None,
    board: Annotated[str | None, typer.Option("--board", "-b", help="A board's name or a .toml file.")] = None,
    backend: BackendName = "c",
    settings: Settings = None,
    optimize: Optimized = None,
    latency: Latency = None,
    ram: Ram = None,
    flash: Flash = None,
    json: Json = False,
) -> None:
    """Say whether a model fits a board, before anything is built.

    Example: `edgeflow check student.keras --board rpi-pico --latency "50 ms"`
    """
    from edgeflow import pipeline
    from edgeflow.board import load_board
    from edgeflow.report.terminal import show_findings, show_memory, show_verdict

    chosen, settings = load_board(board) if board else None, with_aim(settings, optimize)
    if model.suffix == ".toml":
        from edgeflow.train.recipe import load_config

        found = pipeline.check_config(load_config(model), chosen)
        follow = f"edgeflow run {quoted(model)}"
    else:
        if chosen is None:
            raise EdgeflowError("no board named", fix="add --board NAME; edgeflow boards lists them")
        limits = budget_limits(latency, ram, flash)
        graph = pipeline.open_graph(model, weights, declared)
        found = [pipeline.check(graph, chosen, backend, backend_settings(settings), limits)]
        chosen_backend = "" if backend == "c" else f" --backend {backend}"
        chosen_options = "".join(f" --set {quoted(one)}" for one in settings or ())
        source = f"{quoted(model)}{model_options(weights, declared)}"
        follow = f"edgeflow build {source} --board {quoted(board or '')}{chosen_backend}{chosen_options} -o firmware"
    if json:
        answers = [verdict_json(one.verdict) for one in found]
        print_json(answers if len(answers) > 1 else answers[0])
    else:
        for one in found:
            if not one.verdict.fits:
                show_memory(open_console(), one.verdict)
            show_verdict(open_console(), one.verdict, follow)
            show_findings(open_console(), one.findings)
    answer(all(one.ok for one in found))


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The recipe, edgeflow.toml.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again, even if nothing changed.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a recipe's teacher and student.

    Example: `edgeflow train examples/digits/edgeflow.toml`
    """
    from edgeflow import pipeline
    from edgeflow.report.progress import watcher
    from edgeflow.report.record import to_json
    from edgeflow.train.recipe import load_config

    console = open_console()
    with watcher(console, quiet=quiet or json) as seen:
        steps, digests = pipeline.train(load_config(config), seen, fresh=fresh)
    if json:
        print_json({"steps": to_json(tuple(steps)), "digests": digests})
    else:
        from edgeflow.report.terminal import line, show_steps

        show_steps(console, steps)
        line(console, f"  next: edgeflow check {quoted(steps[-1].path or '')} --board nucleo-f446re")


@app.command()
def predict(
    student: Annotated[Path, typer.Argument(help="A model file, .keras or .h5.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="Inputs: .npy, or .npz with x_test or input names.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write vectors.npz into.")],
    declared: Declared = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Ask QKeras itself for a model's outputs, as vectors to verify against.

    Example: `edgeflow predict student.keras --data test.npz -o vectors`
    """
    from edgeflow import pipeline
    from edgeflow.report.progress import watcher

    with watcher(open_console(error=True), quiet=json) as seen:
        seen.stage("predict", "starting TensorFlow")
        vectors = pipeline.predict_folder(student, data, output, declared=declared, force=force)
    if json:
        print_json({"vectors": str(output / "vectors.npz"), "samples": vectors.samples})
        return
    say(f"{vectors.samples} samples -> {output / 'vectors.npz'}")
    say(f"  next: edgeflow build {quoted(student)}{model_options(None, declared)} --board nucleo-f446re -o firmware")
    say(f"        edgeflow verify firmware --vectors {quoted(output / 'vectors.npz')}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A model file: .keras, .h5, .tflite, or .json with its weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for model.json and weights.npz.")],
    weights: Weights = None,
    declared: Declared = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Turn a trained model into its exact integer graph. Needs no TensorFlow.

    Example: `edgeflow import student.keras -o graph`
    """
    from edgeflow import pipeline
    from edgeflow.ir.graph import Meaning
    from edgeflow.semantics.serialize import graph_digest

    graph = pipeline.import_model(file, output, weights=weights, declared=declared, force=force)
    logits = [one.name for one in graph.outputs if one.logits]
    if json:
        facts = {"meaning": graph.meaning.value, "logits": logits}
        print_json({"path": str(output), "ops": len(graph.nodes), "digest": graph_digest(graph), **facts})
        return
    say(f"'{graph.name}': {len(graph.nodes)} ops -> {output}")
    for name in logits:
        say(f"  output '{name}': its softmax is left out, the output is its logits (the largest class is the same)")
    if graph.meaning is Meaning.REAL:
        say("  it means real arithmetic on the stored parameters: verify says how often float32 differs")
    say(f"  next: edgeflow check {quoted(output)} --board nucleo-f446re")


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(help="A float Keras model, .keras or .h5.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="Samples: .npz with x_train, x_test, y_test; or .npy.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the graph and vectors.npz.")],
    samples: Annotated[int, typer.Option("--samples", help="Calibrate on at most so many samples.")] = 512,
    method: Annotated[str, typer.Option("--method", help="Ranges by mse, minmax or percentile.")] = "mse",
    bits: Annotated[int, typer.Option("--bits", help="Bits of a weight, 2 to 8.")] = 8,
    activation_bits: Annotated[int, typer.Option("--activation-bits", help="Bits of a value, 2 to 8.")] = 8,
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="One weight scale a layer, not a channel.")] = False,
    power_of_two: Annotated[
        bool, typer.Option("--power-of-two", help="All scales powers of two: for hls4ml too.")
    ] = False,
    no_equalize: Annotated[bool, typer.Option("--no-equalize", help="Leave the channels' sizes as they are.")] = False,
    no_bias_correction: Annotated[
        bool, typer.Option("--no-bias-correction", help="Leave the mean error of each channel.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show which layer costs how much.")] = False,
    force: Force = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Turn a float Keras model into an exact integer graph, without training. Needs no TensorFlow.

    Example: `edgeflow quantize model.keras --data data.npz -o graph`
    """
    from edgeflow.artifacts import check_output
    from edgeflow.report.progress import watcher
    from edgeflow.report.quantized import show_quantized
    from edgeflow.train.calibrate import Options, quantize_model, record, write_quantized

    equalize, correct = not no_equalize, not no_bias_correction
    options = Options(samples, method, bits, activation_bits, per_tensor, power_of_two, equalize, correct)
    check_output(output, force=force)
    with watcher(open_console(error=True), quiet=quiet or json) as seen:
        found = quantize_model(model, data, options, lambda what: seen.stage("quantize", what))
    write_quantized(found, output, force=force)
    if json:
        print_json({"path": str(output), **record(found)})
    else:
        show_quantized(open_console(), found, output, explain=explain)


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help=EXISTS)],
    weights: Weights = None,
    declared: Declared = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="LAYER", help="How this layer's numbers became integers.")
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="The integer graph itself, one line a tensor (with --json: model.json).")
    ] = False,
    json: Json = False,
) -> None:
    """Show what each layer of a model became: its integers, weights, sums and cost; or explain one layer.

    Example: `edgeflow inspect student.keras --explain conv1`
    """
    from edgeflow import pipeline
    from edgeflow.report.inspect import explain_layer, inspect_graph, read_layers
    from edgeflow.report.record import to_json

    graph = pipeline.open_graph(model, weights, declared)
    if text:
        from edgeflow.semantics.serialize import MODEL, to_files
        from edgeflow.semantics.text import show_graph

        say((to_files(graph)[MODEL].decode() if json else show_graph(graph)).rstrip("\n"))
    elif explain is not None:
        from edgeflow.report.inspect.show import show_explanation

        told = explain_layer(graph, explain, read_layers(model, weights))
        print_json(to_json(told)) if json else show_explanation(open_console(), told)
    else:
        from edgeflow.report.inspect.show import show_inspection

        found = inspect_graph(graph)
        layers = [one for one in found.rows if one.weight_bits is not None] or list(found.rows)
        source = f"{quoted(model)}{model_options(weights, declared)}"
        follow = f"edgeflow inspect {source} --explain {layers[0].layer if layers else 'LAYER'}"
        print_json(to_json(found)) if json else show_inspection(open_console(), found, follow)


@app.command()
def build(
    model: Annotated[Path, typer.Argument(help=EXISTS)],
    board: BoardName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write the project into.")],
    weights: Weights = None,
    declared: Declared = None,
    backend: BackendName = "c",
    settings: Settings = None,
    optimize: Optimized = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also compile it and run it, compared with the graph on a few samples.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the firmware project of a model for a board.

    Example: `edgeflow build student.keras --board rpi-pico -o firmware`
    """
    from edgeflow import pipeline
    from edgeflow.board import load_board
    from edgeflow.budget import Limits
    from edgeflow.conformance import compile_and_run
    from edgeflow.report.record import to_json
    from edgeflow.report.terminal import line, show_compiled, show_memory, show_verdict

    chosen, options = load_board(board), backend_settings(with_aim(settings, optimize))
    graph = pipeline.open_graph(model, weights, declared)
    original = pipeline.original_file(model)
    checked = pipeline.check(graph, chosen, backend, options, Limits())
    if checked.verdict.hopeless:
        if json:
            print_json({"path": None, **verdict_json(checked.verdict)})
        else:
            show_memory(open_console(), checked.verdict)
            show_verdict(open_console(), checked.verdict)
            line(open_console(), f"  nothing was written to {output}")
        answer(False)
    artefact = pipeline.build(graph, chosen, backend, options, output, original=original, force=force)
    if not json:
        line(open_console(), f"wrote {output}")
    ran = compile_and_run(artefact) if compiled else None
    if json:
        shown = {} if ran is None else {"compiled": to_json(ran)}
        print_json({"path": str(output), "graph": artefact.digest, **shown, **verdict_json(checked.verdict)})
    else:
        console = open_console()
        if ran is not None:
            show_compiled(console, ran)
        show_memory(console, checked.verdict)
        given = "--vectors vectors.npz" if original is None else "--data inputs.npz"
        show_verdict(console, checked.verdict, f"edgeflow verify {quoted(output)} {given}")
    answer(checked.ok and (ran is None or ran.bit_exact))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that edgeflow build made.")],
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help="Inputs and QKeras' outputs (edgeflow predict).")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="For a .tflite model, inputs: floats, or integers of its own type."),
    ] = None,
    runner: Annotated[list[str] | None, typer.Option("--runner", help="Only this runner; repeat for more.")] = None,
    port: Annotated[
        str | None,
        typer.Option("--port", metavar="DEV", help="Also on your own board, at this serial port."),
    ] = None,
    baud: Annotated[int, typer.Option("--baud", help="Bits a second of that serial port.")] = 115200,
    latency: Latency = None,
    ram: Ram = None,
    flash: Flash = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compile, run and compare bit for bit: QKeras or TFLite-Micro, the integer graph, and what was built.

    Example: `edgeflow verify firmware --vectors vectors/vectors.npz`
    """
    from edgeflow import verification
    from edgeflow.backends.protocol import Attached
    from edgeflow.report.progress import watcher
    from edgeflow.report.record import comparison_record, to_json
    from edgeflow.report.terminal import line, show_comparisons, show_cycles, show_skipped, show_verdict

    console = open_console()
    limits = budget_limits(latency, ram, flash)
    given, source = verification.verification_data(folder, vectors, data)
    with watcher(console, quiet=quiet or json) as seen:
        attached = None if port is None else Attached(port, baud, seen.part)
        artefact, found, verdict = verification.verify(
            folder, given, tuple(runner) if runner else None, limits, lambda what: seen.stage("verify", what), attached
        )
    record = verification.record_verification(folder, source, found, verdict, artefact)
    edited = record.edited
    if json:
        print_json(to_json(record))
    else:
        show_comparisons(console, found.samples, comparison_record(found.comparisons[0]), record.targets)
        show_cycles(console, record.targets)
        show_skipped(console, record.skipped)
        if found.accuracy is not None:
            built = found.adapted_accuracy
            other = "" if built is None else f"; of what was built: {built * 100:.2f} %"
            line(console, f"  accuracy of the integers: {found.accuracy * 100:.2f} % on the vectors' labels{other}")
        if edited:
            line(console, f"  note: changed since edgeflow wrote it: {', '.join(edited)}")
        line(console, "")
        show_verdict(console, verdict, f"edgeflow report {quoted(folder)}")
    answer(found.bit_exact and verdict.fits)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder with a run.json: of edgeflow run or edgeflow verify.")],
    json: Json = False,
) -> None:
    """Print a run, and write it as one self-contained HTML page.

    Example: `edgeflow report examples/digits/build/digits`
    """
    from edgeflow import verification
    from edgeflow.report.html import write_page
    from edgeflow.report.record import read_record, to_json
    from edgeflow.report.terminal import line, show_record

    record = read_record(folder)
    changed = verification.changed_since(folder, record)
    page = write_page(folder if folder.is_dir() else folder.parent, record)
    if json:
        print_json({**to_json(record), "page": str(page), "changed_since": list(changed)})
    else:
        console = open_console()
        show_record(console, record)
        line(console, "")
        if changed:
            line(console, f"  NOT verified as it stands: changed since: {', '.join(changed)}", style="bold red")
        line(console, f"  {page}")
    answer(record.bit_exact and record.fits and not changed)


@app.command()
def boards(
    name: Annotated[str | None, typer.Argument(help="A board's name or .toml file: show all of it.")] = None,
    json: Json = False,
) -> None:
    """List the boards, or show one with the source of every figure.

    Example: `edgeflow boards rpi-pico`
    """
    from edgeflow.board import all_boards, load_board
    from edgeflow.report.record import to_json
    from edgeflow.report.terminal import show_board, show_boards

    if name is not None:
        one = load_board(name)
        print_json(to_json(one)) if json else show_board(open_console(), one)
        return
    known = all_boards()
    print_json(to_json(known)) if json else show_boards(open_console(), known)


if __name__ == "__main__":
    main()
