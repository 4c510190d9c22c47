"""Where mail waits: the durable queue store."""

__all__: list[str] = []
