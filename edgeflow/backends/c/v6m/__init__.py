"""Kernels for Armv6-M, where a multiplication gives 32 bits and overwrites an operand."""
