shardwise show cluster 2x8-h100-400g | grep -v '^source' | wording
