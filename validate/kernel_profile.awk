# Tables of bench_cuda -> a kernel profile (docs/formats.md, Kernel): the straight lines and shares that plans are made
# with. Needs only awk, so that it works where the benchmark ran.
#   awk -f kernel_profile.awk -v group=64 -v peak_tflops=989.4 -v hbm_tb=4.8 FOLDER/*.csv > profile.yaml
# Sparse times are fitted over the default variant's rows of this group and head dimension 128: time = row * (queries x
# heads) + pair * (queries x kept keys x heads), least squares of the relative error. Without rows for a part that a
# profile needs it prints nothing and ends with status 1.
BEGIN { FS = "," }
FNR == 1 {
    split("", column)
    for (i = 1; i <= NF; i++)
        column[$i] = i
    next
}
function value(name) { return $column[name] }
"usable" in column && value("usable") == 0 && !("seqlen" in column) { next }

# sparse.csv
"kept_kv" in column && value("D") == 128 && value("group") == group {
    gpu = value("gpu")
    seconds = value("value") / 1000
    s = value("S"); heads = value("H")
    if (value("kernel") == "lowrank_select") {
        scores = s / group * s * heads
        select_sum += seconds / scores
        selects++
        next
    }
    d = value("pass_") == "bwd"
    rows = s * heads / seconds; pairs = s * value("kept_kv") * heads / seconds
    rr[d] += rows * rows; rp[d] += rows * pairs; pp[d] += pairs * pairs; r1[d] += rows; p1[d] += pairs; points[d]++
}

# attention.csv: `dense`, what we run, is the fastest kernel of ours or cuDNN at the longest sequence of head dimension 128;
# `best` may also be PyTorch's
"seqlen" in column && value("head_dim") == 128 {
    gpu = value("gpu")
    d = value("pass_") == "bwd"
    rate = (d ? 10 : 4) * value("seqlen") ^ 2 * 128 * value("heads") / (value("lat_us") * 1e6)
    for (i = value("kernel") ~ /^torch/ ? 2 : 1; i <= 2; i++)
        if (value("seqlen") > longest[i, d] || (value("seqlen") == longest[i, d] && rate > best[i, d])) {
            longest[i, d] = value("seqlen"); best[i, d] = rate; kernel[i, d] = value("kernel")
        }
}

# gemm.csv, ceilings.csv, move.csv
"k" in column && value("m") == 8192 { gemm = 2 * value("m") * value("n") * value("k") / (value("lat_us") * 1e6) }
"TB_per_s" in column && value("what") ~ /^copy_/ && value("TB_per_s") > copy { copy = value("TB_per_s") }
"moved_bytes" in column && value("op") == "gather" { gathered = 4 * value("lat_us") / value("rows") } # K and V, pack and unpack

function line(d,    det) { # row_s >= 0 and pair_s of direction d, from the normal equations
    det = rr[d] * pp[d] - rp[d] * rp[d]
    row_s[d] = det > 0 ? (r1[d] * pp[d] - p1[d] * rp[d]) / det : -1
    pair_s[d] = det > 0 ? (p1[d] * rr[d] - r1[d] * rp[d]) / det : 0
    if (row_s[d] < 0) {
        row_s[d] = 0
        pair_s[d] = pp[d] > 0 ? p1[d] / pp[d] : 0
    }
}
# The sparsity from which on the sparse kernels beat `dense`, as model/kernel.h defines it, of passes `first` to `last`:
# forward with the selection 0, backward 1.
function breakeven(first, last,    d, s, dense, fixed, slope, keys) {
    s = 64000
    for (d = first; d <= last; d++) {
        dense += (d ? 10 : 4) * s * s * 128 / (best[1, d] * 1e12)
        fixed += row_s[d] * s + (d == 0 ? select_sum / selects * s / group * s : 0)
        slope += pair_s[d] * s
    }
    keys = int((dense - fixed) / slope / 64) * 64
    return keys <= 0 ? "never" : sprintf("%.1f%%", keys < s ? 100 * (1 - keys / s) : 0)
}
function share(x, of) { return sprintf("%.1f%%", 100 * (x < of ? x / of : 1)) }
END {
    if (!points[0] || !points[1] || !selects || !best[1, 0] || !best[1, 1])
        exit 1
    line(0); line(1)
    print "# Made by validate/on_gpu from its tables on one " gpu "."
    print "source: \"measured by validate/on_gpu, bench_cuda, groups of " group " queries\""
    split("dense best", sections, " ")
    for (i = 1; i <= 2; i++) {
        print sections[i] ":"
        print "  name: " kernel[i, 0] (kernel[i, 1] != kernel[i, 0] ? "+" kernel[i, 1] : "")
        for (d = 0; d < 2; d++)
            printf "  %s: %s   # %.0f TFLOP/s of %s at %d tokens\n", d ? "backward" : "forward", share(best[i, d], peak_tflops),
                best[i, d], peak_tflops, longest[i, d]
    }
    print "sparse:"
    print "  name: shardwise-g" group
    split("forward backward", names, " ")
    for (d = 0; d < 2; d++) {
        print "  " names[d + 1] ":   # " points[d] " points"
        print "    row: " sprintf("%.4g", row_s[d] * 1e12) " ps"
        print "    pair: " sprintf("%.4g", pair_s[d] * 1e12) " ps"
    }
    print "  select: " sprintf("%.4g", select_sum / selects * 1e12) " ps"
    print "  tile: 64"
    print "  group: " group
    print "gemm: " (gemm ? share(gemm, peak_tflops) : "79%   # not measured: the H100's")
    print "copy: " (copy ? share(copy, hbm_tb) : "90%   # not measured: the H200's")
    print "pointwise: {least: 1, most: 8}   # not measured: from all fused to one kernel an operation (docs/model.md)"
    print "gathered_row: " (gathered ? sprintf("%.4g ns", gathered * 1e3) : "1 ns   # not measured: an estimate")
    print "measured_on: " gpu
    print "launch: 5 us   # usual figure, not measured"
    print "# sparse beats " kernel[1, 0] " at 64,000 tokens above: forward and selection " breakeven(0, 0) ", backward " breakeven(1, 1) \
        ", both " breakeven(0, 1)
}
