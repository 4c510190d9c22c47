"""How mail is spelled: bytes to values and back. Floor 1: fed with bytes, no transport, clock or disk."""

__all__: list[str] = []
