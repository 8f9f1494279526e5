"""The schema of the values and everything that is generated from it or from the presets."""
