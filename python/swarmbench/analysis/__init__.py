"""Analysis: what a scenario measured in, findings out; no clock, no file, no engine."""
