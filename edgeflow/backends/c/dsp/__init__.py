"""Kernels for cores with the Armv7E-M DSP instructions: generated assembly, each with a C twin that runs anywhere."""
