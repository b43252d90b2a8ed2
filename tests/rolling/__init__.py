"""Two versions of Coatcheck on one store."""
