"""The command line, `duca` or `python -m duca_compile`: one file for each command, and how models are named to it."""
