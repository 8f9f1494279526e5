"""Load generation: traces of real traffic replayed open loop against a serving endpoint, and what was measured."""
