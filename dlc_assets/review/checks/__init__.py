"""The checks of a pose table: each looks at one recording, and says in numbers how much of what it looks for there is."""
