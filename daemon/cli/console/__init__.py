"""What all commands share: parsing of options, files read with progress, output, failures."""
