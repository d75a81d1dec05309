/* All commands, in the order of --help. */
#include "cli/cli.h"

extern const struct command cmd_plan, cmd_memory, cmd_size, cmd_max_clip, cmd_cost, cmd_replan,
    cmd_breakeven, cmd_sweep, cmd_simulate, cmd_traffic, cmd_launch, cmd_predict, cmd_calibrate,
    cmd_report, cmd_compare, cmd_show, cmd_trace, cmd_completion, cmd_help;

const struct command *const cli_commands[] = {
    &cmd_plan,       &cmd_memory, &cmd_size,     &cmd_max_clip, &cmd_cost,   &cmd_replan,
    &cmd_breakeven,  &cmd_sweep,  &cmd_simulate, &cmd_traffic,  &cmd_launch, &cmd_predict,
    &cmd_calibrate,  &cmd_report, &cmd_compare,  &cmd_show,
#ifdef SHARDWISE_TRACES
    &cmd_trace,
#endif
    &cmd_completion, &cmd_help,   NULL,
};
