"""Epochs as values: what was dirty when, on which axis of addresses, in short. Knows no files."""
