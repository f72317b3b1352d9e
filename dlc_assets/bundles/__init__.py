"""Bundles: one file with what is needed to make a session's poses again, and checking that they come out as they were."""
