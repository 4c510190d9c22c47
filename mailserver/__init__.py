"""A classic mail server on Twisted: relay, delivery queue, virtual domains, POP3.

``docs/architecture.rst`` is the map of the packages and the laws that hold between them.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
