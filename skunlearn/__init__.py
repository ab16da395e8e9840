"""Machine unlearning with the habits of scikit-learn."""
