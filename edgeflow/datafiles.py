"""Finds the data that ships with edgeflow: `boards/` and `templates/`, in a checkout or a wheel."""

from __future__ import annotations

from pathlib import Path

from edgeflow.errors import EdgeflowError

_PACKAGE = Path(__file__).resolve().parent


def data_folder(name: str) -> Path:
    """The folder `boards` or `templates`. A checkout's folder wins over the installed copy."""
    checkout = _PACKAGE.parent / name
    if checkout.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        return checkout
    installed = _PACKAGE / "_data" / name
    if installed.is_dir():
        return installed
    raise EdgeflowError(
        f"edgeflow's own folder {name!r} is missing", fix="reinstall edgeflow: this installation is damaged"
    )
