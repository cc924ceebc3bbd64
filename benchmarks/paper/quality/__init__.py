"""Tables I and VI and Figures 2 and 7 of the paper, and its methods beside later ones, on the trained example model."""
