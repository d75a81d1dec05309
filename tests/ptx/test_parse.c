/* Reading PTX: what a kernel asks for, and the place of what cannot be read. */
#include "tests/ptx/ptx.h"

#include <gsl/gsl_test.h>
#include <string.h>

static const char good[] = ".version 9.0\n.target sm_90a\n.address_size 64\n"
                           ".extern .shared .align 1024 .b8 more[];\n"
                           ".visible .entry one(\n"
                           "  .param .u32 one_param_0,\n"
                           "  .param .align 8 .b8 one_param_1[24],\n"
                           "  .param .u8 one_param_2\n"
                           ")\n.maxntid 64, 2, 1\n.minnctapersm 3\n"
                           "{\n .reg .b32 %r<3>; .local .align 8 .b8 depot[12];\n"
                           " .shared .align 16 .b8 s[40];\n"
                           " { .reg .pred p; setp.eq.u32 p, %r1, 0x10U; @!p bra end; }\n"
                           " mov.u32 %r1, 7; // a comment\nend:\n ret;\n}\n"
                           ".entry two() { ret; }\n";

static void a_kernel_says_what_it_takes(void)
{
    struct err e = {ERR_NONE, ""};
    struct ptx_module *m = NULL;
    gsl_test(!ptx_load("good", good, sizeof good - 1, &m, &e), "read: %s", e.text);
    if (!m)
        return;
    const struct ptx_kernel *k = ptx_find(m, "one");
    gsl_test(ptx_kernels(m) != 2 || !ptx_find(m, "two") || ptx_find(m, "three"), "two kernels");
    gsl_test(k->params != 3 || k->param_offset[1] != 8 || k->param_bytes[1] != 24 ||
                 k->param_offset[2] != 32 || k->param_bytes[2] != 1,
             "parameters lie at multiples of their alignment");
    gsl_test(k->max_threads != 128 || k->min_blocks != 3, "64 x 2 x 1 threads, 3 blocks");
    gsl_test(k->static_shared != 40 || k->local_bytes != 12, "40 bytes shared, 12 local");
    ptx_free(m);
}

static void refused(const char *text, const char *place, const char *why)
{
    struct err e = {ERR_NONE, ""};
    struct ptx_module *m = NULL;
    bool bad = ptx_load("bad", text, strlen(text), &m, &e);
    gsl_test(bad || e.code != ERR_INPUT || !strstr(e.text, place) || !strstr(e.text, why),
             "refuses '%s' at %s: %s", why, place, e.text);
    if (bad)
        ptx_free(m);
}

static void what_cannot_be_read_is_named_with_its_line(void)
{
    refused(".version 9.0\n.texref x;\n", "bad:2:", "directive");
    refused(".entry k()\n{ .reg .b32 %r<2>;\n mov.u32 %r1, [;\n}", "bad:3:", "operand");
    refused(".entry k()\n{ mov.u32 %r1, 1;\n", "bad:3:", "ends inside a kernel");
    refused(".entry k()\n{ a: ret;\n a: ret; }", "bad:3:", "second definition");
    refused(".entry k()\n{ .reg .b32 %r<99999999>; }", "bad:2:", "too large");
    refused(".entry k()\n{ {{{{{{{{{{{{{{{{{{{{{{{{{{{{ ret;", "bad:2:", "too deep");
    refused(".entry k(.param .b32 x[9999999999])\n{ }", "bad:1:", "too large");
}

int main(void)
{
    a_kernel_says_what_it_takes();
    what_cannot_be_read_is_named_with_its_line();
    return gsl_test_summary();
}
