"""Reframing: a virtual camera that keeps what people look at inside a picture of another shape."""
