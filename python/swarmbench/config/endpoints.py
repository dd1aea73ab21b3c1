"""Model servers from their configuration, their keys from the environment."""

from __future__ import annotations

import os
import ssl

from swarmbench.config.models import EndpointConfig
from swarmbench.config.processes import Source
from swarmbench.config.types import shown
from swarmbench.plan import Endpoint


def endpoint_of(
    part: EndpointConfig | None, at: tuple[str, ...], source: Source
) -> Endpoint | None:
    """The server that `part`, at the key `at`, names, with its key.

    Raises `ConfigurationError` where it has no address, its authorities' file no certificates, or
    the environment no such variable.
    """
    if part is None:
        return None
    if not part.url.startswith(("http://", "https://")):
        problem = f"{shown(part.url)} is no address; give one such as `http://host:8000`"
        raise source.error((*at, "url"), problem)
    if part.ca_file is not None:
        unreadable = _unreadable(part.ca_file)
        if unreadable is not None:
            raise source.error((*at, "ca_file"), unreadable)
    key = None if part.key_variable is None else os.environ.get(part.key_variable)
    if part.key_variable is not None and not key:
        problem = f"the environment has no {shown(part.key_variable)}; set it to the server's key"
        raise source.error((*at, "key_variable"), problem)
    return Endpoint(part.url, part.model, key, part.ca_file, part.timeout, part.clients)


def _unreadable(ca_file: str) -> str | None:
    """What is wrong with a file of certificates."""
    named = f"`{' '.join(ca_file.split())}`"
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        return f"{named} holds no certificates; name a file of them in PEM"
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return f"{named} cannot be read ({reason}); name a file that can be read"
    return None
