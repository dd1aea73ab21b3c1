"""The scenarios: one function each over a `Driver`, without clock, thread or file."""
