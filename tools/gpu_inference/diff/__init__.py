"""What a change of values or chart does to a running release: `gpu-inference diff`."""
