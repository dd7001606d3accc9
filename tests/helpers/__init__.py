"""What several tests need: networks, data, commands, programs for processes. Tests import from here and `adaln`."""
