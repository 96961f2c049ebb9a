"""Data sets: layout on disk, fold lists, checks, frame cache, training samples."""
