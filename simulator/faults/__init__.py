"""Faults of the simulated world: one small class each, acting on the knobs of ``simulator.faults.knobs``."""
