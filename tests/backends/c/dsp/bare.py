"""Runs generated functions on this machine and, bare, on QEMU's Cortex-M4: results, instructions, spoilt registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow.toolchain import gcc, qemu
from edgeflow.toolchain.process import Limits, check, run

FLAGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror")
CORE = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=softfp", "-mfpu=auto")
SANITIZE = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class Call:
    """C statements, the arrays that they read, and the array that they write: `results` elements of `ctype` in `y`.

    `y` starts as a pattern of bytes and has a spare element behind it, so that a stray store shows.
    """

    name: str
    arrays: dict[str, npt.NDArray[np.uint32]]
    statements: Sequence[str]
    ctype: str
    results: int


@dataclass(frozen=True)
class Outcome:
    """What a call left in y, spare element included, and the instructions that it took (QEMU only)."""

    y: npt.NDArray[np.int64]
    instructions: int


PATTERN = 0xA5
_DTYPES = {"uint8_t": np.uint8, "int32_t": np.int32}

_LINK = """
ENTRY(Reset_Handler)
SECTIONS {
    .text 0x00000000 : { KEEP(*(.vectors)) *(.text .text.* .rodata .rodata.*) . = ALIGN(4); }
    .bss 0x20000000 (NOLOAD) : { *(.bss .bss.* COMMON) }
    /DISCARD/ : { *(.ARM.*) }
}
"""

_HOST = """
#include <stdio.h>
int main(void) {
    FILE *file = fopen("outputs.bin", "wb");
    for (uint32_t i = 0; i < CALLS; i++) {
        fresh(i); calls[i].call(); fwrite(calls[i].y, 1, calls[i].size, file);
    }
    return fclose(file);
}
"""

_BARE = """
#define TIMER ((volatile uint32_t *)0x40000000)
#define SYSTICK ((volatile uint32_t *)0xe000e010)
static int32_t semihost(int32_t operation, const void *argument) {
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
static void leave(uint32_t code) {
    const uint32_t block[2] = {0x20026u, code};
    (void)semihost(32, block);
    for (;;) { }
}
static uint32_t opened(const char *name, uint32_t length) {
    const uint32_t block[3] = {(uint32_t)name, 5u, length};
    return (uint32_t)semihost(1, block);
}
static void written(uint32_t file, const void *data, uint32_t size) {
    const uint32_t block[3] = {file, (uint32_t)data, size};
    if (semihost(5, block) != 0) { leave(72u); }
}
void Fault_Handler(void) { leave(70u); }
/* Spoils what lies below the interrupted function's stack. */
__attribute__((naked)) void Tick_Handler(void) {
    __asm__("mov r0, #0\\n mov r1, sp\\n mov r2, #32\\n 1: str r0, [r1, #-4]!\\n subs r2, #1\\n bne 1b\\n bx lr\\n");
}
/* Calls with known values in the registers that a function must keep; *spoilt is 0 when all are kept. */
__attribute__((naked, noipa)) static void guarded(
    __attribute__((unused)) void (*call)(void), __attribute__((unused)) uint32_t *spoilt) {
    __asm__(
        "push {r1, r4-r11, lr}\\n vpush {d8-d15}\\n mov r12, r0\\n"
        ".irp n, 4, 5, 6, 7, 8, 9, 10, 11\\n mov r\\\\n, #\\\\n\\n .endr\\n"
        ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\\n"
        "mov r0, #\\\\n\\n vmov s\\\\n, r0\\n .endr\\n"
        "blx r12\\n mov r0, #0\\n"
        ".irp n, 4, 5, 6, 7, 8, 9, 10, 11\\n eor r\\\\n, r\\\\n, #\\\\n\\n orr r0, r0, r\\\\n\\n .endr\\n"
        ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\\n"
        "vmov r1, s\\\\n\\n eor r1, r1, #\\\\n\\n orr r0, r0, r1\\n .endr\\n"
        "vpop {d8-d15}\\n pop {r1, r4-r11, lr}\\n str r0, [r1]\\n bx lr\\n");
}
__attribute__((noinline)) static uint32_t ticks(void (*call)(void)) {
    const uint32_t start = TIMER[1];
    call();
    return start - TIMER[1];
}
static void nothing(void) { }
static uint32_t counted[CALLS + 1];
static void work(void) {
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: the floating-point unit is on */
    TIMER[1] = 0xffffffffu;
    TIMER[2] = 0xffffffffu;
    TIMER[0] = 1u;
    const uint32_t outputs = opened("outputs.bin", 11u), again = opened("again.bin", 9u);
    counted[CALLS] = ticks(nothing);
    for (uint32_t i = 0; i < CALLS; i++) {
        fresh(i);
        counted[i] = ticks(calls[i].call);
        written(outputs, calls[i].y, calls[i].size);
    }
    SYSTICK[1] = 1200u;
    SYSTICK[2] = 0u;
    SYSTICK[0] = 7u;
    for (uint32_t i = 0; i < CALLS; i++) {
        fresh(i);
        uint32_t spoilt = 1u;
        guarded(calls[i].call, &spoilt);
        if (spoilt != 0) { leave(80u); }
        written(again, calls[i].y, calls[i].size);
    }
    SYSTICK[0] = 0u;
    written(opened("counts.bin", 10u), counted, sizeof counted);
    const uint32_t figures[7] = {1u, 0u, 0u, 0u, 0u, 0u, 0u};
    written(opened("figures.bin", 11u), figures, sizeof figures);
    leave(0u);
}
void *memcpy(void *to, const void *from, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) { ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i]; }
    return to;
}
void *memset(void *to, int value, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) { ((volatile uint8_t *)to)[i] = (uint8_t)value; }
    return to;
}
void Reset_Handler(void) { work(); }
__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))0x20400000, Reset_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, 0, 0, 0, 0, Fault_Handler, Fault_Handler, 0, Fault_Handler, Tick_Handler};
"""


def _program(functions: Sequence[str], calls: Sequence[Call], ending: str) -> str:
    lines = ["#include <stdint.h>", *functions]
    for number, call in enumerate(calls):
        for name, values in call.arrays.items():
            text = ", ".join(f"{int(value)}u" for value in values)
            lines.append(f"static const uint32_t {name}_{number}[] = {{{text}}};")
        aliases = " ".join(f"const uint32_t *const {name} = {name}_{number};" for name in call.arrays)
        lines += [
            f"static {call.ctype} y_{number}[{call.results + 1}];",
            f"static void call_{number}(void) {{ {aliases} {call.ctype} *const y = y_{number};",
            *("    " + statement for statement in call.statements),
            "}",
        ]
    table = ", ".join(f"{{call_{number}, y_{number}, sizeof y_{number}}}" for number in range(len(calls)))
    lines.append(f"enum {{ CALLS = {len(calls)} }};")
    lines.append(f"static const struct {{ void (*call)(void); void *y; uint32_t size; }} calls[] = {{{table}}};")
    lines += [
        "static void fresh(uint32_t number) {",
        f"    for (uint32_t i = 0; i < calls[number].size; i++) {{ ((uint8_t *)calls[number].y)[i] = {PATTERN}; }}",
        "}",
    ]
    return "\n".join(lines) + ending


def _outputs(path: Path, calls: Sequence[Call]) -> list[npt.NDArray[np.int64]]:
    content, at, found = path.read_bytes(), 0, []
    for call in calls:
        values = np.frombuffer(content, _DTYPES[call.ctype], call.results + 1, at)
        at += values.nbytes
        found.append(values.astype(np.int64))
    assert at == len(content)
    return found


def on_host(functions: Sequence[str], calls: Sequence[Call], folder: Path) -> list[Outcome]:
    source = folder / "host.c"
    source.write_text(_program(functions, calls, _HOST))
    program = gcc.compile_host([source], folder, folder / "host", (*FLAGS, *SANITIZE))
    check(run([str(program)], Limits(seconds=60), cwd=folder), "the program failed")
    return [Outcome(y, 0) for y in _outputs(folder / "outputs.bin", calls)]


def under_qemu(functions: Sequence[str], calls: Sequence[Call], folder: Path) -> list[Outcome]:
    """Each call runs alone, counted; then under an interrupt that spoils the stack below, its registers guarded."""
    source, script = folder / "bare.c", folder / "bare.ld"
    source.write_text(_program(functions, calls, _BARE))
    script.write_text(_LINK)
    flags = (*CORE, *FLAGS, "-ffreestanding", "-nostdlib", "-fno-tree-loop-distribute-patterns")
    image = gcc.compile_image([source], folder, script, folder / "bare.elf", flags)
    qemu.run_image(image, "mps2-an386", folder, seconds=120)
    ticks = np.frombuffer((folder / "counts.bin").read_bytes(), np.uint32).astype(np.int64)
    counts = ((ticks[:-1] - ticks[-1]) * 40 + (1 << 6)) >> qemu.ICOUNT_SHIFT
    plain, interrupted = _outputs(folder / "outputs.bin", calls), _outputs(folder / "again.bin", calls)
    for one, other in zip(plain, interrupted, strict=True):
        np.testing.assert_array_equal(one, other)
    return [Outcome(y, int(count)) for y, count in zip(plain, counts, strict=True)]
