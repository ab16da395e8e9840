"""What a run needs, each thing once; private to the package."""
