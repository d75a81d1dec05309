# ncu --csv --page raw -> the counters that say what bounds a kernel, as a table for people (Markdown). Columns are found by
# name, since ncu's differ from GPU to GPU; one that is not there is "-".
#   awk -f counters.awk counters.csv
# A first line has the names, a second their units; ncu's own messages ("==PROF== ...") stand between.
function fields(line,    n, i, c, quoted) { # into f[]: quoted, with commas inside
    split("", f); n = 1
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        if (c == "\"")
            quoted = !quoted
        else if (c == "," && !quoted)
            n++
        else
            f[n] = f[n] c
    }
    return n
}
function number(i,    x) { x = f[i]; gsub(/,/, "", x); return x + 0 }
function percent(i) { return i ? sprintf("%.0f%%", number(i)) : "-" }
function stalls(    i, k, best, out, told) { # the three that warps wait for most, in warps a cycle
    for (k = 0; k < 3; k++) {
        best = 0
        for (i in stall)
            if (!(i in told) && (!best || number(i) > number(best)))
                best = i
        if (!best || number(best) <= 0)
            break
        told[best]
        out = out (out ? ", " : "") sprintf("%s %.1f", stall[best], number(best))
    }
    return out ? out : "-"
}
!/^"/ { next }
!names {
    names = fields($0)
    for (i = 1; i <= names; i++) {
        name = f[i]
        if (name == "Kernel Name") kernel = i
        else if (name == "gpu__time_duration.sum") time = i
        else if (name ~ /^sm__pipe_tensor.*cycles_active\.avg\.pct_of_peak_sustained_(active|elapsed)$/ && (!tensor || name ~ /^sm__pipe_tensor_cycles/)) tensor = i
        else if (name == "lts__throughput.avg.pct_of_peak_sustained_elapsed") cache = i
        else if (name == "lts__t_sector_hit_rate.pct") hits = i
        else if (name == "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed") memory = i
        else if (name == "sm__warps_active.avg.pct_of_peak_sustained_active") occupancy = i
        else if (name ~ /^l1tex__data_bank_conflicts_pipe_lsu_mem_shared.*\.sum$/) conflict[i]
        else if (name ~ /issue_stalled_.*_per_issue_active/ && name !~ /not_issued|not_selected|selected_per/) {
            sub(/.*issue_stalled_/, "", name); sub(/_per_issue_active.*/, "", name)
            stall[i] = name
        }
    }
    print "| kernel | ms | tensor cores | level-2 cache | its hits | memory | warps of those possible | bank conflicts | warps waiting, of each issued instruction |"
    print "|---|---|---|---|---|---|---|---|---|"
    next
}
!units { # ns, us or ms; newer versions spell them out
    fields($0)
    units = time ? f[time] : "-"
    ms = units ~ /^(s|second)$/ ? 1e3 : units ~ /^m/ ? 1 : units ~ /^u/ ? 1e-3 : 1e-6
    next
}
{
    fields($0)
    most = 0
    for (i in conflict)
        most = number(i) > most ? number(i) : most
    name = f[kernel]
    sub(/^void /, "", name); sub(/\(.*/, "", name)
    printf "| %s | %s | %s | %s | %s | %s | %s | %d | %s |\n", name, time ? sprintf("%.3f", number(time) * ms) : "-", percent(tensor),
        percent(cache), percent(hits), percent(memory), percent(occupancy), most, stalls()
}
