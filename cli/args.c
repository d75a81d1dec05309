#include "cli/args.h"

#include <assert.h>
#include <string.h>

#include "base/nearest.h"

struct given {
    const struct arg_option *option;
    const char *text; /* NULL: not given; "" for flags */
    double number;
    int64_t integer;
    int choice, count;
    bool *chosen;
    double *list;
};

struct args {
    const char *command;
    int count, operand_count;
    struct given *given; /* one for each option of the tables, in their order */
    const char **operands;
    struct arena *arena;
};

/* ---- the tables ---- */

static struct args *args_new(const char *command, const struct arg_group *const *groups, int argc,
                             struct arena *a)
{
    struct args *g = ARENA_NEW(a, struct args);
    int options = 0;
    for (int i = 0; groups[i]; i++)
        for (const struct arg_option *o = groups[i]->options; o->name; o++)
            options++;
    *g = (struct args){.command = command,
                       .given = ARENA_ARRAY(a, struct given, options + 1),
                       .operands = ARENA_ARRAY(a, const char *, argc + 1),
                       .arena = a};
    for (int i = 0; groups[i]; i++)
        for (const struct arg_option *o = groups[i]->options; o->name; o++) {
            assert(!args_known(g, o->name) && "an option stands twice in the command's tables");
            g->given[g->count++].option = o;
        }
    return g;
}

static struct given *find_name(const struct args *g, const char *name, size_t length)
{
    for (int i = 0; i < g->count; i++)
        if (strncmp(g->given[i].option->name, name, length) == 0 &&
            g->given[i].option->name[length] == '\0')
            return &g->given[i];
    return NULL;
}

static struct given *find_letter(const struct args *g, char letter)
{
    for (int i = 0; i < g->count; i++)
        if (g->given[i].option->letter == letter)
            return &g->given[i];
    return NULL;
}

/* The option that an argument begins, without regard to "=value"; NULL when it is none of ours. */
static struct given *find(const struct args *g, const char *arg)
{
    if (strncmp(arg, "--", 2) == 0)
        return find_name(g, arg + 2, strcspn(arg + 2, "="));
    return arg[0] == '-' && arg[1] != '\0' && arg[2] == '\0' ? find_letter(g, arg[1]) : NULL;
}

bool args_names(const struct arg_group *const *groups, const char *arg)
{
    size_t length = strcspn(arg, "=");
    for (int i = 0; strncmp(arg, "--", 2) == 0 && groups[i]; i++)
        for (const struct arg_option *o = groups[i]->options; o->name; o++)
            if (strlen(o->name) == length - 2 && strncmp(o->name, arg + 2, length - 2) == 0)
                return true;
    return false;
}

static bool unknown(const struct args *g, const char *arg, struct err *e)
{
    const char **names = ARENA_ARRAY(g->arena, const char *, g->count + 1);
    for (int i = 0; i < g->count; i++)
        names[i] = g->given[i].option->name;
    const char *text = arg + strspn(arg, "-");
    const char *near = nearest_name(arena_strndup(g->arena, text, strcspn(text, "=")), names);
    return err_set(e, ERR_INPUT, err_at_name(NULL),
                   "'%.80s' is no option of `shardwise %s`%s%s%s its --help lists them", arg,
                   g->command, near ? "; did you mean '--" : "", near ? near : "",
                   near ? "'?" : ";");
}

/* ---- values ---- */

static char *list_of(const struct arg_option *o, struct arena *a)
{
    char *text = arena_strdup(a, o->choices[0]);
    for (int i = 1; o->choices[i]; i++)
        text = arena_printf(a, "%s, %s", text, o->choices[i]);
    return text;
}

static bool choice_of(const struct args *g, const struct arg_option *o, const char *text,
                      int *choice, struct err *e)
{
    for (int i = 0; o->choices[i]; i++)
        if (strcmp(o->choices[i], text) == 0) {
            *choice = i;
            return true;
        }
    const char *near = nearest_name(text, o->choices);
    return err_set(e, ERR_INPUT, args_at(g, o->name), "'%.80s' is not one of %s%s%s%s", text,
                   list_of(o, g->arena), near ? "; did you mean '" : "", near ? near : "",
                   near ? "'?" : "");
}

/* The next part of a comma-separated text, NULL after the last; *rest moves on. */
static const char *next_part(const char **rest, struct arena *a)
{
    if (!*rest)
        return NULL;
    size_t length = strcspn(*rest, ",");
    const char *part = arena_strndup(a, *rest, length);
    *rest = (*rest)[length] ? *rest + length + 1 : NULL;
    return part;
}

static bool read_choices(const struct args *g, struct given *v, struct err *e)
{
    int choice, count = 0;
    while (v->option->choices[count])
        count++;
    v->chosen = ARENA_ARRAY(g->arena, bool, count);
    const char *rest = v->text;
    for (const char *part; (part = next_part(&rest, g->arena)); v->chosen[choice] = true)
        if (!choice_of(g, v->option, part, &choice, e))
            return false;
    return true;
}

static bool read_list(const struct args *g, struct given *v, struct err *e)
{
    int room = 1;
    for (const char *c = v->text; *c; c++)
        room += *c == ',';
    v->list = ARENA_ARRAY(g->arena, double, room);
    const char *rest = v->text;
    for (const char *part; (part = next_part(&rest, g->arena)); v->count++)
        if (!qty_parse(part, v->option->dim,
                       arena_printf(g->arena, "--%s, number %d", v->option->name, v->count + 1),
                       err_at_name(NULL), &v->list[v->count], e))
            return false;
    return true;
}

static bool read_value(const struct args *g, struct given *v, struct err *e)
{
    const struct arg_option *o = v->option;
    struct err_at at = args_at(g, o->name);
    if (o->kind != ARG_FLAG && v->text[0] == '\0')
        return err_set(e, ERR_INPUT, at, "the value is empty; wanted %s", o->value);
    switch (o->kind) {
    case ARG_QTY:
        return qty_parse(v->text, o->dim, at.file, err_at_name(NULL), &v->number, e);
    case ARG_INT:
        return qty_parse_int(v->text, o->least, o->most, at.file, err_at_name(NULL), &v->integer,
                             e);
    case ARG_QTY_LIST:
        return read_list(g, v, e);
    case ARG_CHOICE:
        return choice_of(g, o, v->text, &v->choice, e);
    case ARG_CHOICES:
        return read_choices(g, v, e);
    case ARG_FLAG:
    case ARG_TEXT:
        break;
    }
    return true;
}

/* Takes the option at argv[*i] and, if it stands apart, its value. */
static bool take(const struct args *g, int argc, char *const *argv, int *i, struct err *e)
{
    const char *arg = argv[*i], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    struct given *v = find(g, arg);
    if (!v)
        return unknown(g, arg, e);
    struct err_at at = args_at(g, v->option->name);
    if (v->text)
        return err_set(e, ERR_INPUT, at, "is given twice");
    if (v->option->kind == ARG_FLAG) {
        v->text = "";
        return !equals || err_set(e, ERR_INPUT, at, "takes no value, got '%.80s'", equals + 1);
    }
    if (equals)
        v->text = equals + 1;
    else if (*i + 1 < argc && strcmp(argv[*i + 1], "--") != 0 && !find(g, argv[*i + 1]))
        v->text = argv[++*i];
    else
        return err_set(e, ERR_INPUT, at, "needs a value: %s, %s", v->option->value,
                       v->option->help);
    return read_value(g, v, e);
}

struct args *args_parse(const char *command, const struct arg_group *const *groups, int argc,
                        char *const *argv, struct arena *a, struct err *e)
{
    struct args *g = args_new(command, groups, argc, a);
    bool options = true;
    for (int i = 0; i < argc; i++)
        if (options && strcmp(argv[i], "--") == 0)
            options = false;
        else if (!options || argv[i][0] != '-' || argv[i][1] == '\0')
            g->operands[g->operand_count++] = argv[i];
        else if (!take(g, argc, argv, &i, e))
            return NULL;
    return g;
}

static bool set_value(const struct args *g, const char *name, const char *text, struct err *e)
{
    struct given *v = find_name(g, name, strlen(name));
    if (!v)
        return unknown(g, arena_printf(g->arena, "--%s", name), e);
    const struct arg_option *o = v->option;
    *v = (struct given){.option = o, .text = text && o->kind == ARG_FLAG ? "" : text};
    return !text || o->kind == ARG_FLAG || read_value(g, v, e);
}

struct args *args_over(const struct args *base, const char *command,
                       const struct arg_group *const *groups, const struct arg_setting *set,
                       int count, struct arena *a, struct err *e)
{
    struct args *g = args_new(command, groups, 0, a);
    for (int i = 0; base && i < g->count; i++) {
        const char *name = g->given[i].option->name;
        const struct given *v = find_name(base, name, strlen(name));
        if (v && v->text && !set_value(g, name, v->text, e))
            return NULL;
    }
    for (int i = 0; i < count; i++)
        if (!set_value(g, set[i].name, set[i].text, e))
            return NULL;
    return g;
}

/* ---- reading what was given ---- */

bool args_known(const struct args *g, const char *name)
{
    return find_name(g, name, strlen(name)) != NULL;
}

static const struct given *known(const struct args *g, const char *name)
{
    const struct given *v = find_name(g, name, strlen(name));
    assert(v && "an option that the command's tables do not have");
    return v;
}

bool args_given(const struct args *g, const char *name)
{
    return known(g, name)->text != NULL;
}

const char *args_text(const struct args *g, const char *name)
{
    return known(g, name)->text;
}

double args_qty_or(const struct args *g, const char *name, double fallback)
{
    const struct given *v = known(g, name);
    assert(v->option->kind == ARG_QTY);
    return v->text ? v->number : fallback;
}

int64_t args_int_or(const struct args *g, const char *name, int64_t fallback)
{
    const struct given *v = known(g, name);
    assert(v->option->kind == ARG_INT);
    return v->text ? v->integer : fallback;
}

int args_choice_or(const struct args *g, const char *name, int fallback)
{
    const struct given *v = known(g, name);
    assert(v->option->kind == ARG_CHOICE);
    return v->text ? v->choice : fallback;
}

const bool *args_choices(const struct args *g, const char *name)
{
    const struct given *v = known(g, name);
    assert(v->option->kind == ARG_CHOICES);
    return v->chosen;
}

const double *args_list(const struct args *g, const char *name, int *count)
{
    const struct given *v = known(g, name);
    assert(v->option->kind == ARG_QTY_LIST);
    *count = v->count;
    return v->list;
}

struct err_at args_at(const struct args *g, const char *name)
{
    return err_at_name(arena_printf(g->arena, "--%s", name));
}

const char *args_one_of(const struct args *g, const char *const *names, bool needed, struct err *e)
{
    const char *one = NULL, *all = "";
    for (int i = 0; names[i]; i++) {
        all = arena_printf(g->arena, "%s%s--%s", all,
                           i == 0         ? ""
                           : names[i + 1] ? ", "
                                          : " or ",
                           names[i]);
        if (!args_given(g, names[i]))
            continue;
        if (one) {
            err_set(e, ERR_INPUT, args_at(g, names[i]), "--%s already says it; give only one", one);
            return NULL;
        }
        one = names[i];
    }
    if (!one && needed)
        err_set(e, ERR_INPUT, err_at_name(NULL), "%s is needed", all);
    return one;
}

bool args_need(const struct args *g, const char *name, struct err *e)
{
    const struct arg_option *o = known(g, name)->option;
    return args_given(g, name) ||
           err_set(e, ERR_INPUT, args_at(g, name), "is needed: %s, %s", o->value, o->help);
}

int args_operands(const struct args *g)
{
    return g->operand_count;
}

const char *args_operand(const struct args *g, int i)
{
    assert(i >= 0 && i < g->operand_count);
    return g->operands[i];
}
