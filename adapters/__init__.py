"""What can be plugged in on either side: providers (events in) and wires (bytes out)."""
