"""The standard deviations that serve best, looked for, and the page that says how far to trust them."""
