"""The rows of the paper's tables (arXiv 2412.18911), counted on our graphs."""
