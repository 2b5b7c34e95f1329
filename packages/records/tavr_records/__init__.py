"""What crosses a stage border: record types, ids, manifests, shards, verdicts and the loading of parameters."""
