"""What runs when the compiled model is called."""
