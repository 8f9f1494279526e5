"""The twin: an emulator of serving runtimes, driven by their presets and the serving model. It says that it is
simulated."""
