"""Configuration: YAML and options in, a checked `Config` and from it a frozen `Plan` out."""

from swarmbench.config.load import Override, load, scalar, set_override
from swarmbench.config.models import SCENARIOS, Config
from swarmbench.config.resolve import Host, resolve

__all__ = [
    "SCENARIOS",
    "Config",
    "Host",
    "Override",
    "load",
    "resolve",
    "scalar",
    "set_override",
]
