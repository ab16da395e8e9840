"""Tools for those who write unlearners."""
