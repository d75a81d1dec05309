#!/bin/sh
# Two NCCL ranks on one GPU: with different NCCL_HOSTID they count as two nodes and talk over the loopback interface
# (NCCL refuses two ranks only on the same host and the same bus address). Shows that messages match, not how fast they are.
# Usage: nccl_two.sh TEST_KERNELS_COMM; exits 77 where NCCL or a GPU is missing.
test=$1
"$test" 1 nccl
alone=$?
[ $alone -eq 0 ] || exit $alone
export WORLD_SIZE=2 LOCAL_RANK=0 NCCL_COMM_ID=127.0.0.1:29471 NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1 \
    NCCL_MNNVL_ENABLE=0 NCCL_NVLS_ENABLE=0 NCCL_MAX_CTAS=2
RANK=1 NCCL_HOSTID=second timeout 60 "$test" 2 nccl >/dev/null &
RANK=0 NCCL_HOSTID=first timeout 60 "$test" 2 nccl
first=$?
wait $! && exit $first
echo "FAIL: rank 1 ends with an error"
exit 1
