"""Why something was left to the inner compiler."""


class Refused(Exception):
    """This graph cannot be accelerated; the message is a reason a user can act on."""


class DucaWarning(UserWarning):
    """A model, or a part of it, runs without acceleration; the message says why."""
