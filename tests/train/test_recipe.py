"""`edgeflow.toml`: what it becomes, and the exact text of every refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.train.recipe import (
    Budget,
    Config,
    Data,
    Distill,
    InputWidth,
    LayerWidths,
    Prune,
    Quantize,
    Target,
    Training,
    Width,
    load_config,
    parse_config,
)

PATH = Path("here/edgeflow.toml")
LEAST = """\
name = "a"
[data]
source = "digits"
[student]
model = "models.py:student"
[[targets]]
board = "rpi-pico"
"""


def test_the_example_loads(root: Path) -> None:
    config = load_config(root / "examples" / "digits" / "edgeflow.toml")
    assert [(target.board, target.backend) for target in config.targets] == [
        ("nucleo-f446re", "c"),
        ("nucleo-f446re", "tflm"),
        ("rpi-pico", "c"),
        ("pynq-z2", "hls4ml"),
    ]
    assert config.prune is not None
    assert config.prune.sparsity == 0.5
    assert config.output == root / "examples" / "digits" / "build" / "digits"


def test_a_whole_file_becomes_a_config() -> None:
    text = (
        LEAST
        + """\
options = { unroll = 4, name = "x", fast = true }
[teacher]
model = "models.py:teacher"
epochs = 3
batch = 8
learning_rate = 1
[prune]
sparsity = 0.5
begin = 1
layers = { first = 0 }
[quantize]
input = { bits = 5, integer = 1, signed = false }
weights = { bits = 4 }
biases = { bits = 8, integer = -1 }
activations = { bits = 6, integer = 2 }
[quantize.layers.first]
weights = { bits = 8 }
[budget]
latency = "50 ms"
ram = "16 KiB"
"""
    )
    assert parse_config('seed = 7\noutput = "out"\n' + text, PATH) == Config(
        path=PATH,
        name="a",
        seed=7,
        output=Path("here/out"),
        data=Data("digits"),
        teacher=Training("models.py:teacher", epochs=3, batch=8, learning_rate=1.0),
        student=Training("models.py:student"),
        distill=Distill(),
        prune=Prune(0.5, begin=1, layers={"first": 0.0}),
        quantize=Quantize(
            input=InputWidth(5, 1, signed=False),
            weights=Width(4),
            biases=Width(8, -1),
            activations=Width(6, 2),
            layers={"first": LayerWidths(weights=Width(8))},
        ),
        targets=(Target("rpi-pico", "c", {"unroll": 4, "name": "x", "fast": True}),),
        budget=Budget(latency="50 ms", ram="16 KiB"),
    )


def test_what_is_left_out_has_a_default() -> None:
    config = parse_config(LEAST, PATH)
    assert (config.seed, config.teacher, config.distill, config.prune, config.quantize) == (0, None, None, None, None)
    assert config.output == Path("here/build/a")
    assert config.resolve("models.py") == Path("here/models.py")
    assert (config.budget.latency_seconds, config.budget.ram_bytes, config.budget.flash_bytes) == (None, None, None)


def test_budgets_have_units() -> None:
    budget = parse_config(LEAST + '[budget]\nlatency = "50 ms"\nram = "2 KiB"\nflash = "1 kB"', PATH).budget
    assert (budget.latency_seconds, budget.ram_bytes, budget.flash_bytes) == (0.05, 2048, 1000)


QUANTIZE = """\
[quantize]
input = { bits = 5 }
weights = { bits = 4 }
biases = { bits = 8 }
activations = { bits = 6 }
"""
REFUSALS = {
    "misspelt key": (
        LEAST + "[prune]\nsparcity = 0.5",
        '9: unknown key "sparcity" in [prune]; did you mean "sparsity"?',
    ),
    "misspelt override": (
        LEAST + QUANTIZE + "[quantize.layers.a]\nweigths = { bits = 4 }",
        '14: unknown key "weigths" in [quantize.layers.a]; did you mean "weights"?',
    ),
    "no target": (
        LEAST.split("[[targets]]")[0],
        '1: key "targets" is missing\n  fix: add a [[targets]] table',
    ),
    "empty targets": (
        "targets = []\n" + LEAST.split("[[targets]]")[0],
        '1: no target\n  fix: add [[targets]] with board = "nucleo-f446re"',
    ),
    "same target twice": (
        LEAST + '[[targets]]\nboard = "rpi-pico"\nbackend = "c"',
        '8: board "rpi-pico" with backend "c" is listed twice in [[targets]]\n'
        "  fix: remove one, or give it other options",
    ),
    "name that is a path": (
        LEAST.replace('"a"', '"../a"'),
        '1: name "../a" cannot name a folder\n  fix: use letters, digits, dots, dashes and underscores',
    ),
    "negative seed": (
        "seed = -1\n" + LEAST,
        "1: seed is -1; it must be from 0 to 4294967295\n  fix: choose seed in that range",
    ),
    "data source": (
        LEAST.replace('"digits"', '"digit"'),
        '3: unknown data source "digit"; did you mean "digits"?\n'
        '  fix: use "digits", an .npz file, or a function as "data.py:load"',
    ),
    "no function": (
        LEAST.replace("models.py:student", "models.py"),
        '5: "models.py" in [student] does not name a function\n'
        '  fix: write a Python file and a function in it, as "models.py:student"',
    ),
    "no epoch": (
        LEAST.replace("[[targets]]", "epochs = 0\n[[targets]]"),
        "6: epochs in [student] is 0; it must be from 1 to 100000\n  fix: choose epochs in that range",
    ),
    "learning rate": (
        LEAST.replace("[[targets]]", "learning_rate = nan\n[[targets]]"),
        "6: learning_rate in [student] is nan; it must be above 0, up to 10\n  fix: 0.002 is a good start",
    ),
    "sparsity": (
        LEAST + "[prune]\nsparsity = 1.0",
        "9: sparsity in [prune] is 1; a sparsity must be from 0 to below 1\n  fix: 0.5 makes half of the weights zero",
    ),
    "sparsity of a layer": (
        LEAST + "[prune]\nsparsity = 0.5\nlayers.conv = -0.1",
        "10: conv in [prune.layers] is -0.1; a sparsity must be from 0 to below 1\n"
        "  fix: 0.5 makes half of the weights zero",
    ),
    "pruning after the end": (
        LEAST + "[prune]\nsparsity = 0.5\nbegin = 5\nend = 20",
        "11: end in [prune] is 20; it must be from 5 to 19\n  fix: choose end in that range",
    ),
    "too many bits": (
        LEAST + QUANTIZE.replace("weights = { bits = 4 }", "weights = { bits = 17 }"),
        "10: bits in [quantize.weights] is 17; it must be from 2 to 16\n  fix: choose bits in that range",
    ),
    "too few bits in an override": (
        LEAST + QUANTIZE + "[quantize.layers.a]\nactivations = { bits = 0 }",
        "14: bits in [quantize.layers.a.activations] is 0; it must be from 1 to 16\n  fix: choose bits in that range",
    ),
    "empty override": (
        LEAST + QUANTIZE + "[quantize.layers.a]",
        "13: [quantize.layers.a] is empty\n  fix: give it weights, biases or activations, or remove it",
    ),
    "distill without teacher": (
        LEAST + "[distill]",
        "8: [distill] needs a teacher\n  fix: add a [teacher] table, or remove [distill]",
    ),
    "temperature": (
        LEAST + '[teacher]\nmodel = "m.py:t"\n[distill]\ntemperature = 0',
        "11: temperature in [distill] is 0; it must be above 0, up to 1000\n  fix: 2 to 8 are usual",
    ),
    "nothing to learn": (
        LEAST + '[teacher]\nmodel = "m.py:t"\n[distill]\nsoft = 0\nhard = 0',
        "11: soft and hard in [distill] are both 0, so nothing would be learned\n  fix: raise one of them",
    ),
    "budget without unit": (
        LEAST + '[budget]\nlatency = "50"',
        '9: latency in [budget]: "50" is not a quantity such as "50 ms" (units: s, ms, us, µs, ns)\n'
        "  fix: write a number and a unit",
    ),
    "budget of nothing": (
        LEAST + '[budget]\nram = "0 kB"',
        "9: ram in [budget] is zero\n  fix: give an amount above 0, or remove the line",
    ),
    "budget as a number": (
        LEAST + "[budget]\nram = 2048",
        '9: key "ram" in [budget]: must be text in quotes, not 2048',
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_say_what_where_and_how_to_fix(text: str, expected: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        parse_config(text, PATH)
    assert str(caught.value) == f"{PATH}:{expected}"
