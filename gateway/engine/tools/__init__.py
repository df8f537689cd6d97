"""Tools that the gateway runs itself, between two rounds of a model."""
