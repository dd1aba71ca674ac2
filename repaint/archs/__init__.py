"""Networks, told apart and built by the shapes of their checkpoints."""
