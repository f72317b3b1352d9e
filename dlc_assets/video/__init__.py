"""Video recordings: what they hold, counted and timed frame by frame, and their pictures."""
