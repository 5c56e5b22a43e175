"""A field list on a Ray cluster: the same worker as in a shard, in as many processes as the cluster has room for."""
