# What to plan stands in the study, where --resume finds it again.
echo 'parameters: {model: dsv-0.8b, cluster: 1x8-h100, tokens: 8k}' >study.yaml
shardwise sweep study.yaml --eval measured; echo "status $?"
shardwise sweep study.yaml --gpus=4; echo "status $?"
shardwise sweep study.yaml --resum; echo "status $?"
rm study.yaml
