"""Copies of what a lab cannot compute again, in a folder elsewhere, and making a lab from them."""
