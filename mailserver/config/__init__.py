"""The server's configuration: ``mailserver.toml`` and ``domains/``, read into frozen values.

``load`` reads all of it, and raises everything that is wrong with it at once. Nobody below this floor is
handed a :class:`Config`: ``service.py`` takes it apart into the plain values that each object needs.
"""

from mailserver.config.reading import ConfigErrors, find_config, load, load_server
from mailserver.config.values import DNS, TLS, Config, Delivery, Limits, Listen, Login, Network, Proxy, Relay

__all__ = [
    "DNS",
    "TLS",
    "Config",
    "ConfigErrors",
    "Delivery",
    "Limits",
    "Listen",
    "Login",
    "Network",
    "Proxy",
    "Relay",
    "find_config",
    "load",
    "load_server",
]
