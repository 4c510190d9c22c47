"""Couriers: how mail goes one step further, one module a way."""

__all__: list[str] = []
