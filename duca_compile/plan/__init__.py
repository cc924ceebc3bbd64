"""What each mode does with every branch, by the options."""
