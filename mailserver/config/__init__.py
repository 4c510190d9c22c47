"""The server's configuration: ``mailserver.toml`` and ``domains/``, read into frozen values.

``reading.load`` reads all of it, and raises everything that is wrong with it at once. A worker is handed the
values and reads nothing: what reads, which takes long to import, is not imported here. Nobody below this
floor is handed a :class:`Config`: ``service.py`` takes it apart into the plain values that each object needs.
"""

from mailserver.config.values import DNS, TLS, Config, Delivery, Limits, Listen, Login, Network, Proxy, Relay

__all__ = [
    "DNS",
    "TLS",
    "Config",
    "Delivery",
    "Limits",
    "Listen",
    "Login",
    "Network",
    "Proxy",
    "Relay",
]
