"""Own videos and gaze brought into the published layout."""
