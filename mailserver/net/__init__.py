"""All that knows sockets: sessions, TLS contexts, DNS, mail hosts in order."""

__all__: list[str] = []
