# Programs are an axis of a study; an unknown one is named where it stands.
printf 'name: programs\nparameters:\n  model: wan2.1-14b\n  cluster: 1x8-h100\n  cp: 8\n  clip: 480x832x81\n  for: [xdit, diffusers]\n' > study.yaml
shardwise sweep study.yaml -o - | wording | grep -v '^#' | cut -d, -f 1-4
printf 'name: programs\nparameters:\n  model: wan2.1-14b\n  cluster: 1x8-h100\n  clip: 480x832x81\n  for: [xdit, difusers]\n' > study.yaml
shardwise sweep study.yaml -o -
echo "status $?"
rm study.yaml
