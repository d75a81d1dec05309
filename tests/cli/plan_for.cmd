# Plans what a program can run, and says with which settings.
shardwise plan --model wan2.1-14b --cluster 1x8-h100 --clip 720x1280x81 --inference --cp 8 --for diffusers | wording
