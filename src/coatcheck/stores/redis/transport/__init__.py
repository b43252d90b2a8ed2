"""The transport: batches calls, routes each to the server that has its shard, and pipelines them over connections."""
