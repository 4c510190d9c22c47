"""When, where and how often: the queue runner, routing, couriers and reports."""

__all__: list[str] = []
