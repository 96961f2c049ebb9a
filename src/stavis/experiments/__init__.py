"""Compositions of capabilities: the published experiment, the demo."""
