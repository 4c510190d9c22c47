"""The machine in its parts: each module builds one, names its members, starts and stops them in order."""

__all__: list[str] = []
