"""One module for each kind of executor that a lab can choose; each has a function `executor`, called where a run begins."""
