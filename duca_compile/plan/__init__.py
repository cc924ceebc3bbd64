"""What each recipe does with every branch, by the options."""
