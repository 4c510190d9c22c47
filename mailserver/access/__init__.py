"""Permission: pure decisions that name the rule and its file and line."""

__all__: list[str] = []
