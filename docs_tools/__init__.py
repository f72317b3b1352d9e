"""What makes parts of the documentation from the project itself: reference tables from the code, pictures from the running UI."""
