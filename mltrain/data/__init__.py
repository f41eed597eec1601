"""Split files, the sample plan, loaders and image pipelines."""
