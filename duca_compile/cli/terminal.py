"""How wide what is printed may be."""

from rich.console import Console

from duca_compile.report.text import WIDTH


def width() -> int:
    """Of the terminal, or 80 columns where the text goes to a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else WIDTH
