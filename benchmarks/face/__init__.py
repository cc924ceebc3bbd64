"""How every result is shown: blocks on a page, on the terminal, as Markdown and as JSON, with where it is from."""
