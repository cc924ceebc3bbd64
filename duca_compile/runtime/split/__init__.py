"""Forward passes that Dynamo split at graph breaks."""
