"""Publishing NWB files, and the videos that go with them, to the DANDI archive."""
