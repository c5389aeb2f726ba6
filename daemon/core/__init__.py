"""The rules, as pure functions: no clock, no dice, no I/O, no await. Whatever varies comes in as an argument."""
