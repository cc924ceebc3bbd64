"""The recipes of a model as graphs, to compile, to save and to run by oneself, without `torch.compile` around them."""
