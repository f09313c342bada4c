"""Kernels for cores with Armv8.1-M MVE (Helium): generated assembly, each with a C twin that runs anywhere."""
