"""What mail is: frozen values. Floor 0: no bytes from the wire, no clock, no disk, no Twisted."""

__all__: list[str] = []
