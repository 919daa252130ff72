"""Raw samples to numbers with a stated error. No clock, no socket, no randomness that a seed does not fix."""
