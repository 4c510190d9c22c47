"""Where mail rests: Maildir++ delivery and the POP3 snapshot, lock and quota."""

__all__: list[str] = []
