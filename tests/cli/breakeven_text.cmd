shardwise breakeven --gpu h100 --tokens 64000 | wording
