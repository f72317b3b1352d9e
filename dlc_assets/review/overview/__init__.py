"""The lab-wide overview: all quality reports in one table and one picture, so that one looks where it is worth it."""
