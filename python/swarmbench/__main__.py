"""`python -m swarmbench`."""

from swarmbench.cli import entry

entry()
