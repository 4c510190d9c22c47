"""Several processes: the one that stores and delivers, and those that accept for it."""

__all__: list[str] = []
