shardwise plan --modle dsv-2.7b
