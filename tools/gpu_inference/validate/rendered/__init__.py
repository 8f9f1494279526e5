"""Rules on what the chart makes of values: for what no schema of values sees, such as `pod` and `extraObjects`."""
