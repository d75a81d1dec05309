# 6 GB resident beside the model are more than such a GPU has, however many there are.
cat >small.yaml <<'END'
{source: test, bf16: 312 TFLOP/s, memory: 4 GiB, hbm: 1.5 TB/s, sms: 108}
END
cat >cluster.yaml <<'END'
source: test
gpu: ./small.yaml
nodes: 1
gpus_per_node: 8
nvlink: {rate: 300 GB/s, latency: 12 us, efficiency: 62%}
nic: {rate: 200 Gb/s, latency: 30 us, efficiency: 91%, gpus_per_nic: 1}
pcie: 32 GB/s
END
for command in plan size memory; do
    shardwise $command --model dsv-0.8b --cluster cluster.yaml --tokens 8k >/dev/null; echo "status $?"
done
shardwise plan --model dsv-0.8b --cluster cluster.yaml --tokens 8k --resident '1 GB' | grep -c 'a step takes'
rm small.yaml cluster.yaml
