"""What all commands share at a terminal: options, files read with progress, output, failures."""
