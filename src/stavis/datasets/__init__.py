"""Data sets: their layout on disk, fetching, checking, caching, loading and preparing them."""
