"""Does a model fit its GPUs, for how many requests, and how long does it take to load? Estimates, not measurements."""
