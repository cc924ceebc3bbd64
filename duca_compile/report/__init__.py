"""What users ask of a model: `explain`, `stats`, `reset`."""
