"""The house's walls: who imports whom, who runs programs, who writes files, and what start-up loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "edgeflow"
MODULES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]

RUNNERS = {"subprocess", "multiprocessing", "pty", "pexpect"}
RUNNING_CALLS = {"os.system", "os.popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.posix_spawnp"}
RUNNING_FAMILIES = ("os.exec", "os.spawn")
WRITING_CALLS = {
    "os.link", "os.makedirs", "os.mkdir", "os.remove", "os.removedirs", "os.rename", "os.replace", "os.rmdir",
    "os.symlink", "os.truncate", "os.unlink", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree",
    "shutil.move", "shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp", "tempfile.NamedTemporaryFile",
    "tempfile.TemporaryDirectory",
}  # fmt: skip
WRITING_METHODS = {"write_text", "write_bytes", "mkdir", "rmdir", "unlink", "touch", "symlink_to", "hardlink_to"}
HEAVY = ("tensorflow", "keras", "qkeras", "hls4ml", "sklearn", "scipy", "h5py", "jinja2")


def calls(module: str) -> Iterator[ast.Call]:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported(module: str) -> set[str]:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def opening_mode(call: ast.Call) -> str:
    """The mode of a call to `open` or `x.open`, "r" if it names none, "" for any other call."""
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        position = 1
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "open":
        position = 1 if isinstance(call.func.value, ast.Name) and call.func.value.id in ("io", "os") else 0
    else:
        return ""
    given = [word.value for word in call.keywords if word.arg == "mode"] or call.args[position : position + 1]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else "r"


def writes(call: ast.Call) -> bool:
    if ast.unparse(call.func) in WRITING_CALLS or set(opening_mode(call)) & set("wax+"):
        return True
    return isinstance(call.func, ast.Attribute) and call.func.attr in WRITING_METHODS


def test_the_import_contract_holds(root: Path) -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("toolchain/")])
def test_only_the_toolchain_runs_programs(module: str) -> None:
    names = imported(module)
    assert not names & (RUNNERS | RUNNING_CALLS)
    assert not [name for name in names if name.startswith(RUNNING_FAMILIES)]
    found = [ast.unparse(call.func) for call in calls(module)]
    assert not [name for name in found if name in RUNNING_CALLS or name.startswith(RUNNING_FAMILIES)]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "artifacts.py"])
def test_only_artifacts_writes_files(module: str) -> None:
    assert not [f"line {call.lineno}: {ast.unparse(call)}" for call in calls(module) if writes(call)]
    assert not imported(module) & WRITING_CALLS


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("open('a')", False),
        ("open('a', 'rb')", False),
        ("open('a', 'w')", True),
        ("open('a', mode='a')", True),
        ("path.open()", False),
        ("path.open('rb')", False),
        ("path.open('wb')", True),
        ("path.write_text('x')", True),
        ("os.replace(a, b)", True),
        ("text.replace('a', 'b')", False),
        ("tempfile.TemporaryFile()", False),
        ("shutil.rmtree(a)", True),
    ],
)
def test_a_writing_call_is_recognised(code: str, expected: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert writes(call) is expected


@pytest.mark.parametrize("module", ["edgeflow", "edgeflow.board", "edgeflow.semantics", "edgeflow.cli"])
def test_start_up_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
