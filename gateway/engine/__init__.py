"""The chat engine: model rounds, the tools between them, and which model answers."""
