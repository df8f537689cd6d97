"""Each wraps the stream of a call; their order is in `gateway.server.pipeline`."""
