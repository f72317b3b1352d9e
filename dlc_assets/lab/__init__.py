"""What a lab declared, where every file of it lies, and who holds which of them."""
