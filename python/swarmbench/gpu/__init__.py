"""All that touches a GPU; nothing outside this folder imports cupy, numba or pynvml."""
