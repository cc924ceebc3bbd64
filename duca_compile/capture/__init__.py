"""From Dynamo's graph to one normal form."""
