"""Kernels that are written in Python: Numba compiles them for a card, or its simulator runs them.

Nothing here is imported before a kernel is asked for: Numba decides at its import whether it
simulates. A kernel module imports `cuda` from `numba` under that name, which the simulator looks
for, and `declared.kernel`; `compiling` makes cubins of it and `simulated` runs it.
"""
