"""Speed and size, each measured against the tool that it replaces: ``python -m benchmarks.<name> [--json]``."""
