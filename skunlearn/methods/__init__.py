"""The unlearning methods, a class each."""
