"""SMTP: the server, the client, and the reception that accepts mail."""

__all__: list[str] = []
