"""What is true for everyone: the contracts between the parts, and the server that joins them."""
