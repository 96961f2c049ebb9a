"""Scores predictions of whole data sets as the published protocol does, and compares and reports the results."""
