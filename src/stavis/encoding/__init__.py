"""Encoding: more bits where people look."""
