"""Reading and merging values exactly as Helm does, with the position of everything."""
