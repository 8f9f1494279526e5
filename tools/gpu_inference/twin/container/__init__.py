"""The twin as a container image: it takes a runtime's place under the command and arguments that the chart gives it."""
