"""Pose tables: their columns, their files, reading many at once, and the layouts that other programs want."""
