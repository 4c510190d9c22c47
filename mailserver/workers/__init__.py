"""Several processes: the one that delivers, and those that accept for it."""

__all__: list[str] = []
