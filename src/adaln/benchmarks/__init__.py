"""How fast everything is, beside a public peer and beside what the machine can do at best, in one run."""
