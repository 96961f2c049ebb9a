"""Downloads of the published data and weights."""
