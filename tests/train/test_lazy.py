"""Training's modules load without TensorFlow, say how to get it, and keep its chatter to themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODULES = (
    "import edgeflow.vectors, edgeflow.train.recipe, edgeflow.train.data, edgeflow.train.teacher, "
    "edgeflow.train.student, edgeflow.train.build, edgeflow.train.predict, sys\n"
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


def test_nothing_heavy_is_imported_with_the_modules() -> None:
    heavy = "{'tensorflow', 'keras', 'qkeras', 'sklearn', 'pydantic'} & set(sys.modules)"
    finished = run(MODULES + f"print({heavy})")
    assert (finished.stdout, finished.stderr) == ("set()\n", "")


def test_a_missing_tensorflow_is_said_with_the_fix() -> None:
    finished = run(
        MODULES + "sys.modules['tensorflow'] = None\n"
        "from edgeflow.errors import MissingTool\n"
        "from edgeflow.train.runtime import load_runtime\n"
        "try:\n    load_runtime()\nexcept MissingTool as error:\n    print(error)\n"
    )
    assert finished.stdout == (
        "this needs TensorFlow, Keras and QKeras, and tensorflow is not installed\n"
        '  fix: pip install "edgeflow[train]"\n'
    )


def test_training_prints_nothing(root: Path, tmp_path: Path) -> None:
    finished = run(
        "import dataclasses, pathlib\n"
        "from edgeflow.train.recipe import load_config\n"
        "from edgeflow.train.data import load_data\n"
        "from edgeflow.train.teacher import train_teacher\n"
        "from edgeflow.train.student import train_student\n"
        f"config = load_config(pathlib.Path({str(root / 'examples' / 'digits' / 'edgeflow.toml')!r}))\n"
        "short = lambda training: dataclasses.replace(training, epochs=1)\n"
        "config = dataclasses.replace(config, teacher=short(config.teacher), student=short(config.student))\n"
        f"data, out = load_data(config), pathlib.Path({str(tmp_path)!r})\n"
        "teacher = train_teacher(config, data, out)\n"
        "student = train_student(config, data, teacher.path, out)\n"
        "print(teacher.parameters, student.parameters)\n"
    )
    assert (finished.stdout, finished.stderr) == ("62250 16250\n", "")
