"""From a call to the server that has its shard, and back."""
