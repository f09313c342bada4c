#!/usr/bin/env bash
# Installs the compilers and the emulator that edgeflow calls, or says what is missing and what that costs.
# Exit code 0, also when something is missing; 1 in CI (CI=true), where a missing tool is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

has() { command -v "$1" >/dev/null 2>&1; }
has_newlib() { has arm-none-eabi-gcc && [ -f "$(arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -print-file-name=libc.a)" ]; }
has_picolibc() { has riscv64-unknown-elf-gcc && riscv64-unknown-elf-gcc --specs=picolibc.specs -E -include string.h -x c /dev/null >/dev/null 2>&1; }

has_sanitizers() { has clang && echo "int main(void) { return 0; }" | clang -fsanitize=address,undefined -x c - -o /dev/null >/dev/null 2>&1; }

packages=() losses=()
need() { # need "packages" "what is skipped without them"
    read -ra more <<<"$1"
    packages+=("${more[@]}")
    losses+=("$2")
}
look() {
    packages=() losses=()
    has gcc || need "gcc libc6-dev" "C on this machine"
    has g++ || need "g++" "the check that the C code is C++ as well"
    has arm-none-eabi-gcc || need "gcc-arm-none-eabi" "firmware for the boards"
    has_newlib || need "libnewlib-arm-none-eabi" "firmware for the boards"
    has riscv64-unknown-elf-gcc || need "gcc-riscv64-unknown-elf" "firmware for RISC-V boards"
    has_picolibc || need "picolibc-riscv64-unknown-elf" "firmware for RISC-V boards"
    has qemu-system-riscv32 || need "qemu-system-misc" "running RISC-V firmware without the board"
    has qemu-system-arm || need "qemu-system-arm" "running firmware without the board"
    has clang || need "clang" "the check that a second compiler finds nothing in the C code"
    has cppcheck || need "cppcheck" "the checks of the C code by cppcheck and MISRA's rules"
    has cmake || need "cmake" "building a firmware project with CMake"
}

look
[ ${#packages[@]} -eq 0 ] && has_sanitizers && exit 0
[ ${#packages[@]} -eq 0 ] || scripts/apt-install.sh "${packages[@]}" || true
# by itself: some releases have no such package, as their clang brings the same files
has_sanitizers || scripts/apt-install.sh libclang-rt-dev || true
look
has_sanitizers || need "libclang-rt-dev" "the runs of the C code under a second compiler's sanitizers"
[ ${#packages[@]} -eq 0 ] && exit 0
{
    printf 'setup: not installed: %s\n' "${packages[*]}"
    printf '%s\n' "${losses[@]}" | sort -u | sed 's/^/  skipped until then: /'
    printf '  fix: as root, apt-get install %s; elsewhere, install the same tools from your system'"'"'s packages\n' "${packages[*]}"
} >&2
[ "${CI:-}" != true ]
