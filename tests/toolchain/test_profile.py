"""Instructions fall into kinds by their names, and each kind has its cycles."""

from __future__ import annotations

import pytest

from edgeflow.toolchain.objdump import Instruction
from edgeflow.toolchain.profile import Kind, kind_of, modelled_cycles
from edgeflow.toolchain.trace import Trace

CYCLES = [
    ("ldr", "r0, [r1, #4]", Kind.LOAD, 2),
    ("ldrsb.w", "r0, [r1, r2]", Kind.LOAD, 2),
    ("str.w", "r0, [r1]", Kind.STORE, 1),
    ("ldrd", "r0, r1, [r2], #8", Kind.MANY, 3),
    ("ldmia.w", "r0!, {r1, r2, r3, r4}", Kind.MANY, 5),
    ("stmdb", "sp!, {r4, r5, r6, r7, r8, r9, sl, fp, lr}", Kind.MANY, 10),
    ("vldmia", "r1!, {s0-s15}", Kind.MANY, 17),
    ("vpush", "{d8-d15}", Kind.MANY, 17),
    ("vldr", "s0, [r0]", Kind.MANY, 2),
    ("vldr", "d0, [r0]", Kind.MANY, 3),
    ("smlad", "r0, r1, r2, r0", Kind.MULTIPLY, 1),
    ("smlatb", "r0, r1, r2, r0", Kind.MULTIPLY, 1),
    ("smmlar", "r0, r1, r2, r0", Kind.MULTIPLY, 1),
    ("umull", "r0, r1, r2, r3", Kind.MULTIPLY, 1),
    ("mla", "r0, r1, r2, r3", Kind.MULTIPLY, 1),
    ("sdiv", "r0, r1, r2", Kind.DIVIDE, 12),
    ("vmov", "r0, s1", Kind.MOVE, 1),
    ("vmov", "r0, r1, s1, s2", Kind.MOVE, 2),
    ("bne.n", "40 <l1_conv>", Kind.BRANCH, 1),
    ("cbz", "r0, 40 <l1_conv>", Kind.BRANCH, 1),
    ("tbb", "[pc, r0]", Kind.BRANCH, 2),
    ("usat", "r0, #8, r1, asr #3", Kind.OTHER, 1),
    ("bic.w", "r0, r1, #3", Kind.OTHER, 1),
    ("sxtb16", "r0, r1", Kind.OTHER, 1),
    ("it", "eq", Kind.OTHER, 1),
]
RISCV = {
    Kind.LOAD: ("lw", "lbu", "lh"),
    Kind.STORE: ("sw", "sb"),
    Kind.MULTIPLY: ("mul", "mulh", "mulhsu"),
    Kind.DIVIDE: ("div", "divu", "rem"),
    Kind.BRANCH: ("beqz", "bgeu", "blez", "bltz", "j", "jal", "ret"),
    Kind.OTHER: ("add", "lui", "li", "sll", "sra", "slt", "sub"),
}


@pytest.mark.parametrize(("mnemonic", "operands", "kind", "cycles"), CYCLES)
def test_an_instruction_has_its_kind_and_its_cycles(mnemonic: str, operands: str, kind: Kind, cycles: int) -> None:
    one = Instruction(0, 2, mnemonic, operands)
    assert kind_of(one) is kind
    assert modelled_cycles({0: one}, Trace({0: 7}, {(0, 2): 7})) == {0: 7 * cycles}


def test_risc_v_instructions_have_kinds_as_well() -> None:
    assert {
        kind: tuple(one for one in names if kind_of(Instruction(0, 2, one, "")) is kind)
        for kind, names in RISCV.items()
    } == RISCV


@pytest.mark.parametrize(
    ("second", "cycles"),
    [("r2, [r1, #4]", 1), ("r2, [r0]", 2), ("r2, [r1, r0, lsl #2]", 2)],
)
def test_a_load_behind_a_load_is_pipelined_unless_it_needs_its_result(second: str, cycles: int) -> None:
    code = {0: Instruction(0, 2, "ldr", "r0, [r1]"), 2: Instruction(2, 2, "ldr", second)}
    assert modelled_cycles(code, Trace({0: 5, 2: 5}, {(0, 2): 5, (2, 4): 5})) == {0: 10, 2: 5 * cycles}


def test_a_taken_branch_refills_the_pipeline() -> None:
    code = {0: Instruction(0, 2, "nop", ""), 2: Instruction(2, 2, "bne.n", "0 <infer>")}
    trace = Trace({0: 5, 2: 5}, {(0, 2): 5, (2, 0): 4, (2, 4): 1})
    assert modelled_cycles(code, trace) == {0: 5, 2: 4 * 3 + 1}
