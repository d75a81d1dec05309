cat >study.yaml <<'END'
parameters: {model: hunyuanvideo-13b, cluster: 1x8-h100, clip: 720x1280x129, gpus: [1, 3, 8]}
END
shardwise sweep study.yaml -o - | sed -E 's/^[0-9a-f]{16},/ID,/' | wording
rm study.yaml
