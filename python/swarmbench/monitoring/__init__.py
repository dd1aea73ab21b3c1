"""Watching the machine and this process during a run: readings, samples, health."""
