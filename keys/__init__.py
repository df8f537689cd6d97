"""Where keys and usage rows are kept."""
