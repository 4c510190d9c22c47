"""A made-up Internet on loopback: a DNS authority and mail hosts that behave as told."""

__all__: list[str] = []
