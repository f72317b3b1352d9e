"""People are told: of failures, of stopped progress, and once a day of everything."""
