"""What a user gave on the command line and cannot be used."""


class Unusable(Exception):
    """The message says why, and what would do."""
