"""Products made from pose tables: filtered poses and kinematics. Plain Python, testable without Dagster."""
