"""Parts of the deterministic world: one heap of events, a virtual loop, memory wires, a tablet."""
