"""Plain C99 for microcontrollers: one source, one header, no allocation, no library."""
