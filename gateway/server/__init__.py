"""The server: one process that authenticates, accounts and streams."""
