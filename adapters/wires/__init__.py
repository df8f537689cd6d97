"""How answers are written: one file per public API format."""
