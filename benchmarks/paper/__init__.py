"""The tables and figures of the paper (arXiv 2412.18911): counted on our graphs, and made on a trained model."""
