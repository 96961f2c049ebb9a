"""Files at URLs, through fsspec."""
