"""The serving model: how long a GPU takes for what an inference engine does. Pure: no I/O, no clock, no global
state."""
