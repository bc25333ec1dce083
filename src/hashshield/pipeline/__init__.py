"""One use case per module: what the commands call, without a terminal."""
