"""Flight delays: a complete model on every flight out of New York in 2013."""
