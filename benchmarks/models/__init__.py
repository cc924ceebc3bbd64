"""The models that benchmarks run: published architectures with random weights, what they draw means nothing."""
