"""Small tools over FX graphs."""
