"""POP3: the server."""

__all__: list[str] = []
