"""Configuration: YAML and options in, a checked `Config` and from it a frozen `Plan` out."""

from swarmbench.config.host import Host, read_host
from swarmbench.config.load import Override, load, scalar, set_override
from swarmbench.config.models import SCENARIOS, Config
from swarmbench.config.options import OPTIONS, make_plan, overrides_of
from swarmbench.config.resolve import chosen_cores, resolve

__all__ = [
    "OPTIONS",
    "SCENARIOS",
    "Config",
    "Host",
    "Override",
    "chosen_cores",
    "load",
    "make_plan",
    "overrides_of",
    "read_host",
    "resolve",
    "scalar",
    "set_override",
]
