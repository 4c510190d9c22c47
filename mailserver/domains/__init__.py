"""Who lives here: the etc/domains/NAME/ tree, its users, aliases and passwords, and the cred realm."""

__all__: list[str] = []
