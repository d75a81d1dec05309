# An installed tree that is moved elsewhere still finds its presets.
cmake --install "$(dirname "$(dirname "$(readlink -f "$(command -v shardwise)")")")" --prefix "$PWD/first" >/dev/null || exit 9
mv first moved
(cd moved && ls bin/shardwise share/man/man1/shardwise.1 share/bash-completion/completions/shardwise share/zsh/site-functions/_shardwise)
unset SHARDWISE_PRESETS
sed -i '1s|^|# the moved one\n|' moved/share/shardwise/presets/sparsity/webvid-2.7b-28k.csv
moved/bin/shardwise show sparsity webvid-2.7b-28k | grep -o 'the moved one'
rm -rf moved
