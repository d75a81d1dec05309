#include "cli/cli.h"

#include <string.h>

#include "base/preset.h"

static const char *const format_names[] = {"text", "csv", "json",
                                           NULL}; /* in the order of enum table_format */

const struct arg_group cli_output_options = {
    "Output",
    (const struct arg_option[]){
        OPTION_CHOICE("format", format_names, "FORM", "of the results (text)"),
        OPTION_OUTPUT("write the results to FILE, whole or not at all; - is standard output"),
        OPTION_END}};

FILE *cli_out(struct cli *c, struct err *e)
{
    const char *path = args_text(c->args, "output");
    if (!c->outfile)
        c->outfile = outfile_open(path ? path : "-", c->a, e);
    return c->outfile ? outfile_stream(c->outfile) : NULL;
}

bool cli_finish(struct cli *c, struct err *e)
{
    struct outfile *f = c->outfile;
    c->outfile = NULL;
    return !f || outfile_done(f, e);
}

bool cli_input(struct cli *c, const char *kind, const char *name, struct err *e)
{
    const char *path = preset_find(kind, name, err_at_name(NULL), c->a, e);
    if (!path)
        return false;
    if (strcmp(path, name) == 0)
        return prov_input(c->prov, path, e);
    const char *slash = strrchr(path, '/');
    return prov_input_as(c->prov, arena_printf(c->a, "%s/%s", kind, slash ? slash + 1 : path), path,
                         e);
}

void cli_table(const struct cli *c, const struct table *t, const char *key, FILE *out)
{
    if (c->format != TABLE_JSON) {
        prov_comment(c->prov, out);
        table_print(t, c->format, out);
        return;
    }
    struct json j = json_to(out);
    json_object(&j, NULL);
    prov_json(c->prov, &j);
    table_json(t, &j, key);
    json_end(&j);
    fputc('\n', out);
}

static void answer_text(const struct cli *c, const struct cli_answer *answer, FILE *out)
{
    prov_comment(c->prov, out);
    answer->words(answer->data, out);
    for (const struct cli_part *p = answer->parts; p->key; p++) {
        if (table_rows(p->table) == 0)
            continue;
        fprintf(out, "\n%s%s", p->title ? p->title : "", p->title ? "\n" : "");
        table_print(p->table, TABLE_TEXT, out);
    }
}

static void answer_json(const struct cli *c, const struct cli_answer *answer, FILE *out)
{
    struct json j = json_to(out);
    json_object(&j, NULL);
    prov_json(c->prov, &j);
    for (const struct cli_fact *f = answer->facts; f->key; f++)
        json_num(&j, f->key, f->value);
    for (const struct cli_part *p = answer->parts; p->key; p++)
        table_json(p->table, &j, p->key);
    json_end(&j);
    fputc('\n', out);
}

bool cli_answer(struct cli *c, const struct cli_answer *answer, struct err *e)
{
    FILE *out = cli_out(c, e);
    if (!out)
        return false;
    if (c->format == TABLE_TEXT)
        answer_text(c, answer, out);
    else if (c->format == TABLE_JSON)
        answer_json(c, answer, out);
    else
        cli_table(c, answer->rows, NULL, out);
    return true;
}
