"""What must always hold of a world, as code that sees only what an outside observer sees."""
