"""Several processes: the one that stores and steers, and those that accept and speak to other hosts."""

__all__: list[str] = []
