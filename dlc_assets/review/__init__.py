"""Seeing and judging poses: checks, quality reports, labeled videos, frames to label next. Plain Python, testable without Dagster."""
