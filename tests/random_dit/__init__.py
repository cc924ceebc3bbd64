"""Random tiny diffusion transformers, and what it takes to check them."""
