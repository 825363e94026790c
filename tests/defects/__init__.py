"""Planted defects: small patches against production code, each of which a test must catch."""
