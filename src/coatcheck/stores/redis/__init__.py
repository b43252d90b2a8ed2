"""The store on Redis 7 or Valkey, single node and Cluster."""
