"""Boards: what a target has, read from one validated TOML file each."""

from edgeflow.board.cores import Architecture, Core
from edgeflow.board.families import Family
from edgeflow.board.loader import all_boards, board_files, load_board, parse_board, read_board
from edgeflow.board.model import Board, BoardKind, Boot, FpgaBoard, McuBoard, Region, RegionKind
from edgeflow.board.writer import board_text

__all__ = [
    "Architecture",
    "Board",
    "BoardKind",
    "Boot",
    "Core",
    "Family",
    "FpgaBoard",
    "McuBoard",
    "Region",
    "RegionKind",
    "all_boards",
    "board_files",
    "board_text",
    "load_board",
    "parse_board",
    "read_board",
]
