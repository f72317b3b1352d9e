"""Looking at everything outside the lab's own files that its work depends on, and saying what to do where it is not right."""
