"""Keys and usage in a Google spreadsheet."""

from keys.mirror.mirror import SheetsMirror

__all__ = ["SheetsMirror"]
