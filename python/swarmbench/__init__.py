"""Concurrent stress tests and benchmarks whose numbers can be checked."""
