"""What a few seeds can and cannot tell."""
