"""Checks values as Helm and the chart will, with the place and the fix of everything that is wrong."""
