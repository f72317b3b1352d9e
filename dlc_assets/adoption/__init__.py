"""Taking over what a lab already has: trained networks, results of other programs, and the sessions they belong to."""
