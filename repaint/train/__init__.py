"""Training: one flat loop, read top to bottom; a step's randomness is a function of (seed, step)."""
