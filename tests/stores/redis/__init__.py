"""What is particular to the store on Redis and Valkey."""
