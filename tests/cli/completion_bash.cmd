# The script, in a bash of its own, completes as a person would press TAB.
source <(shardwise completion bash)
press() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shardwise; echo "$* -> ${COMPREPLY[*]}"; }
press shardwise pl
press shardwise plan --mo
press shardwise plan --model dsv
press shardwise plan --dispatch ''
press shardwise show s
press shardwise plan --cluster h2
