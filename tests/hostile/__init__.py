"""Hostile input: whatever arrives, a board refuses it with a reason, or has exactly what was signed."""
