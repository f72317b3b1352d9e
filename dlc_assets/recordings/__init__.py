"""Video recordings: found below the lab's roots, probed, and given times on their session's clock."""
