"""Traces and what was decided in them, to be decided again. docs/simulator.md."""
