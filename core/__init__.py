"""The base of every package: the error that a user's mistake raises, and the names and calls that a config holds."""
