cat >study.yaml <<'END'
name: sizes
parameters:
  model: hunyuanvideo-13b
  cluster: 2x8-h100
  resolution: 720x1280
  frames: [129, 257]
  gpus: {from: 2, to: 16, times: 2}
  cp: 8
END
shardwise sweep study.yaml --plot plot.gp | wording
wording <plot.gp
rm study.yaml study.csv plot.gp
