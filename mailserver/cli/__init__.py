"""mailctl: the admin's commands."""

__all__: list[str] = []
