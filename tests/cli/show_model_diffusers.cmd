# A transformer's config.json as diffusers writes it.
mkdir -p Our-Wan/transformer
echo '{"_class_name": "WanTransformer3DModel", "_diffusers_version": "0.35.2", "num_layers": 48, "patch_size": [1, 2, 2], "rope_max_seq_len": 1024}' > Our-Wan/transformer/config.json
shardwise show model Our-Wan/transformer/config.json | tail -n +5
shardwise plan --model Our-Wan/transformer/config.json --cluster 1x8-h100 --cp 8 --clip 720x1280x81 | wording | grep '^Our-Wan'
echo '{"_class_name": "UNet2DConditionModel"}' > config.json
shardwise plan --model ./config.json --cluster 1x8-h100 --clip 720x1280x81
rm -r config.json Our-Wan
