"""The lab as tables: who, when, which recordings, models, errors and poses, for SQL and for comparing models."""
