"""The user's own Python beside the recipe: functions that build models or load data."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from edgeflow.errors import EdgeflowError, did_you_mean
from edgeflow.settings import Location
from edgeflow.train.recipe import Config


@dataclass(frozen=True)
class UserFunction:
    """A function from the user's file, `models.py:teacher`."""

    file: Path
    name: str
    function: Callable[..., object]


def load_function(config: Config, key: Location, text: str) -> UserFunction:
    """Runs the user's file and takes the function out of it. `key` is where the recipe names it.

    Raises EdgeflowError when the file is missing or fails, or has no such function.
    """
    relative, _, name = text.rpartition(":")
    file = config.resolve(relative)
    source = read_source(config, key, text)
    module = ModuleType(f"edgeflow_user_{file.stem}")
    module.__file__ = str(file)
    with _importing_from(file.parent), explained(file, "the file"):
        exec(compile(source, str(file), "exec"), module.__dict__)
    function = module.__dict__.get(name)
    if not callable(function):
        known = [word for word, value in module.__dict__.items() if callable(value) and not word.startswith("_")]
        raise config.error(key, f'{relative} has no function "{name}"{did_you_mean(name, known)}', fix=_define(name))
    return UserFunction(file, name, function)


def read_source(config: Config, key: Location, text: str) -> bytes:
    """The content of the file that holds the function `text`. Raises EdgeflowError when it cannot be read."""
    relative, _, name = text.rpartition(":")
    file = config.resolve(relative)
    try:
        return file.read_bytes()
    except OSError:
        raise config.error(key, f'no file "{relative}" beside it', fix=f"write {name}() in {file}") from None


def call(function: UserFunction, *arguments: object) -> object:
    """Calls the user's function; whatever it raises becomes an EdgeflowError with the user's line."""
    with _importing_from(function.file.parent), explained(function.file, f"{function.name}()"):
        return function.function(*arguments)


def _define(name: str) -> str:
    return f"define {name}, or correct the name after the colon"


@contextlib.contextmanager
def explained(file: Path, what: str) -> Generator[None]:
    """An exception in the user's code, in one line with the place in the user's file."""
    try:
        yield
    except EdgeflowError:
        raise
    except SyntaxError as error:
        where = f"{error.filename or file}:{error.lineno or 1}"
        raise EdgeflowError(f"not valid Python: {error.msg}", where=where, fix="correct that line") from None
    except Exception as error:  # noqa: BLE001  the user's code may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file)]
        where = f"{file}:{lines[-1]}" if lines and lines[-1] else str(file)
        said = " ".join(str(error).split())
        text = f"{what} raised {type(error).__name__}: {said[:300]}".rstrip(": ")
        raise EdgeflowError(text, where=where, fix="this is your own code: correct it there") from None


@contextlib.contextmanager
def _importing_from(folder: Path) -> Generator[None]:
    """Lets the user's file import its neighbours, without leaving bytecode in the user's folder."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
