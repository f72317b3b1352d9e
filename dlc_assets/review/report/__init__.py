"""The quality report of one pose table: measured, drawn, said in words, and put on one page."""
