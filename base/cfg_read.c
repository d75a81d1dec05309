/* The reading half of base/cfg.h: files, libyaml's events, and what is refused. */
#include "base/cfg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <yaml.h>

/* A child that waits for its list or map to end. */
struct pending {
    struct cfg *node;
    const char *key;
    struct cfg_key place;
};

/* A list or map that is being read. */
struct level {
    struct cfg *node;
    int first;       /* its children wait from here on */
    const char *key; /* the key whose value comes next, or NULL */
    struct cfg_key place;
};

struct reader {
    struct arena *out, *scratch;
    struct err *e;
    const char *name;
    struct cfg *root;
    int nodes, depth, waiting, room;
    struct level levels[CFG_DEPTH_LIMIT];
    struct pending *pending;
};

static struct err_at at_mark(const struct reader *r, yaml_mark_t m)
{
    return (struct err_at){r->name, (int)m.line + 1, (int)m.column + 1};
}

static struct err_at at_offset(const char *name, const char *text, size_t offset)
{
    struct err_at at = {name, 1, 1};
    for (size_t i = 0; i < offset; i++) {
        at.column += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (text[i] == '\n' || (text[i] == '\r' && text[i + 1] != '\n')) {
            at.line++;
            at.column = 1;
        }
    }
    return at;
}

static struct level *innermost(struct reader *r)
{
    return r->depth > 0 ? &r->levels[r->depth - 1] : NULL;
}

static bool wants_key(struct reader *r)
{
    struct level *l = innermost(r);
    return l && l->node->kind == CFG_MAP && !l->key;
}

static bool count_node(struct reader *r, yaml_mark_t mark)
{
    if (++r->nodes > CFG_NODE_LIMIT)
        return err_set(r->e, ERR_INPUT, at_mark(r, mark),
                       "more than %d values and keys, which is the limit", CFG_NODE_LIMIT);
    return true;
}

static struct cfg *node_new(struct reader *r, enum cfg_kind kind, yaml_mark_t mark)
{
    if (!count_node(r, mark))
        return NULL;
    struct level *l = innermost(r);
    struct cfg *node = ARENA_NEW(r->out, struct cfg);
    *node = (struct cfg){.kind = kind, .at = at_mark(r, mark), .parent = l ? l->node : NULL};
    return node;
}

/* A node that is complete goes to the list or map around it. */
static void node_done(struct reader *r, struct cfg *node)
{
    struct level *l = innermost(r);
    if (!l) {
        r->root = node;
        return;
    }
    if (r->waiting == r->room) {
        struct pending *old = r->pending;
        r->room = r->room ? 2 * r->room : 1024;
        r->pending = ARENA_ARRAY(r->scratch, struct pending, r->room);
        if (old)
            memcpy(r->pending, old, (size_t)r->waiting * sizeof *old);
    }
    r->pending[r->waiting++] = (struct pending){node, l->key, l->place};
    l->key = NULL;
}

static int by_key(const void *a, const void *b)
{
    const struct pending *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order != 0)
        return order;
    if (x->place.line != y->place.line)
        return x->place.line < y->place.line ? -1 : 1;
    return x->place.column - y->place.column;
}

/* Sorts the children by key, for they are copied already: a map of a million keys takes no million
 * squared. */
static bool keys_differ(struct reader *r, struct pending *p, int count)
{
    const struct pending *twice = NULL;
    qsort(p, (size_t)count, sizeof *p, by_key);
    for (int i = 1; i < count; i++)
        if (strcmp(p[i - 1].key, p[i].key) == 0) {
            twice = &p[i];
            break;
        }
    if (!twice)
        return true;
    struct err_at at = {r->name, twice->place.line, twice->place.column};
    return err_set(r->e, ERR_INPUT, at,
                   "the key '%.80s' is there already, in line %d; want each key once", twice->key,
                   twice[-1].place.line);
}

static bool collect(struct reader *r, const struct level *l)
{
    struct cfg *node = l->node;
    node->count = r->waiting - l->first;
    r->waiting = l->first;
    if (node->count == 0)
        return true;
    struct pending *children = r->pending + l->first;
    node->items = ARENA_ARRAY(r->out, struct cfg *, node->count);
    for (int i = 0; i < node->count; i++)
        node->items[i] = children[i].node;
    if (node->kind == CFG_LIST)
        return true;
    node->keys = ARENA_ARRAY(r->out, const char *, node->count);
    struct cfg_key *places = ARENA_ARRAY(r->out, struct cfg_key, node->count);
    for (int i = 0; i < node->count; i++) {
        node->keys[i] = children[i].key;
        places[i] = children[i].place;
    }
    node->places = places;
    return keys_differ(r, children, node->count);
}

/* Anchors and tags can stand before any value. */
static bool is_plain(struct reader *r, yaml_mark_t mark, const yaml_char_t *anchor,
                     const yaml_char_t *tag)
{
    if (anchor)
        return err_set(r->e, ERR_INPUT, at_mark(r, mark),
                       "the anchor '&%.40s' is not supported, write the value out",
                       (const char *)anchor);
    if (tag)
        return err_set(r->e, ERR_INPUT, at_mark(r, mark),
                       "the tag '%.40s' is not supported, leave it out", (const char *)tag);
    return true;
}

static bool on_alias(struct reader *r, const yaml_event_t *ev)
{
    return err_set(r->e, ERR_INPUT, at_mark(r, ev->start_mark),
                   "the alias '*%.40s' is not supported, write the value out",
                   (const char *)ev->data.alias.anchor);
}

static bool on_document(struct reader *r, const yaml_event_t *ev)
{
    if (r->root)
        return err_set(r->e, ERR_INPUT, at_mark(r, ev->start_mark),
                       "a second document starts here, want one in a file");
    return true;
}

static bool on_text(struct reader *r, const yaml_event_t *ev)
{
    const char *value = (const char *)ev->data.scalar.value;
    size_t length = ev->data.scalar.length;
    yaml_mark_t mark = ev->start_mark;
    if (!is_plain(r, mark, ev->data.scalar.anchor, ev->data.scalar.tag))
        return false;
    if (memchr(value, '\0', length))
        return err_set(r->e, ERR_INPUT, at_mark(r, mark), "the text holds a NUL character");
    if (wants_key(r)) {
        struct level *l = innermost(r);
        l->key = arena_strndup(r->out, value, length);
        l->place = (struct cfg_key){(int)mark.line + 1, (int)mark.column + 1};
        return count_node(r, mark);
    }
    struct cfg *node = node_new(r, CFG_TEXT, mark);
    if (!node)
        return false;
    node->text = arena_strndup(r->out, value, length);
    node->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node_done(r, node);
    return true;
}

static bool open_level(struct reader *r, enum cfg_kind kind, yaml_mark_t mark)
{
    if (wants_key(r))
        return err_set(r->e, ERR_INPUT, at_mark(r, mark), "a %s cannot be a key, want a text",
                       kind == CFG_LIST ? "list" : "mapping");
    if (r->depth == CFG_DEPTH_LIMIT)
        return err_set(r->e, ERR_INPUT, at_mark(r, mark),
                       "nested more than %d deep, which is the limit", CFG_DEPTH_LIMIT);
    struct cfg *node = node_new(r, kind, mark);
    if (!node)
        return false;
    r->levels[r->depth++] = (struct level){.node = node, .first = r->waiting};
    return true;
}

static bool on_list(struct reader *r, const yaml_event_t *ev)
{
    return is_plain(r, ev->start_mark, ev->data.sequence_start.anchor,
                    ev->data.sequence_start.tag) &&
           open_level(r, CFG_LIST, ev->start_mark);
}

static bool on_map(struct reader *r, const yaml_event_t *ev)
{
    return is_plain(r, ev->start_mark, ev->data.mapping_start.anchor, ev->data.mapping_start.tag) &&
           open_level(r, CFG_MAP, ev->start_mark);
}

static bool on_end(struct reader *r, const yaml_event_t *ev)
{
    (void)ev;
    struct level *l = &r->levels[--r->depth];
    if (!collect(r, l))
        return false;
    node_done(r, l->node);
    return true;
}

static bool (*const handlers[])(struct reader *r, const yaml_event_t *ev) = {
    [YAML_DOCUMENT_START_EVENT] = on_document,
    [YAML_ALIAS_EVENT] = on_alias,
    [YAML_SCALAR_EVENT] = on_text,
    [YAML_SEQUENCE_START_EVENT] = on_list,
    [YAML_SEQUENCE_END_EVENT] = on_end,
    [YAML_MAPPING_START_EVENT] = on_map,
    [YAML_MAPPING_END_EVENT] = on_end,
};

static bool yaml_refuse(struct reader *r, const yaml_parser_t *p, const char *text)
{
    if (p->error == YAML_MEMORY_ERROR)
        return err_set(r->e, ERR_SYSTEM, err_at_name(r->name), "out of memory");
    if (p->error == YAML_READER_ERROR)
        return err_set(r->e, ERR_INPUT, at_offset(r->name, text, p->problem_offset),
                       "%s (0x%02x); want text in UTF-8", p->problem,
                       p->problem_value < 0 ? 0u : (unsigned)p->problem_value);
    if (!p->context)
        return err_set(r->e, ERR_INPUT, at_mark(r, p->problem_mark), "%s", p->problem);
    return err_set(r->e, ERR_INPUT, at_mark(r, p->problem_mark), "%s, %s that starts in line %zu",
                   p->problem, p->context, p->context_mark.line + 1);
}

static bool read_events(struct reader *r, yaml_parser_t *p, const char *text)
{
    for (;;) {
        yaml_event_t ev;
        if (!yaml_parser_parse(p, &ev))
            return yaml_refuse(r, p, text);
        size_t type = (size_t)ev.type;
        bool ok = type >= sizeof handlers / sizeof handlers[0] || !handlers[type] ||
                  handlers[type](r, &ev);
        yaml_event_delete(&ev);
        if (!ok || type == YAML_STREAM_END_EVENT)
            return ok;
    }
}

/* libyaml compares each %TAG line with all before it, so a file of them would take hours: looked
 * for first. A line starts the text, or comes after a byte that ends a line break of YAML 1.1 or a
 * byte order mark. */
static bool has_directive(const char *name, const char *text, size_t length, struct err *e)
{
    const char *end = text + length;
    for (const char *c = text; (c = memchr(c, '%', (size_t)(end - c))); c++) {
        bool starts = c == text || memchr("\n\r\x85\xa8\xa9\xbf", c[-1], 6);
        if (starts && ((end - c > 4 && memcmp(c, "%TAG", 4) == 0) ||
                       (end - c > 5 && memcmp(c, "%YAML", 5) == 0))) {
            err_set(e, ERR_INPUT, at_offset(name, text, (size_t)(c - text)),
                    "directives such as %%TAG are not supported, leave the line out");
            return true;
        }
    }
    return false;
}

static bool is_tree(const struct reader *r)
{
    const struct cfg *root = r->root;
    if (!root || (root->kind == CFG_TEXT && root->text[0] == '\0'))
        return err_set(r->e, ERR_INPUT, err_at_name(r->name),
                       "is empty, want a mapping such as 'name: value'");
    if (root->kind == CFG_TEXT)
        return err_set(r->e, ERR_INPUT, root->at,
                       "'%.40s' is a text, want a mapping such as 'name: value'", root->text);
    return true;
}

struct cfg *cfg_read_text(const char *name, const char *text, size_t length, struct arena *a,
                          struct err *e)
{
    if (length > CFG_FILE_LIMIT) {
        err_set(e, ERR_INPUT, err_at_name(name), "%zu bytes are over the limit of 64 MiB", length);
        return NULL;
    }
    if (has_directive(name, text, length, e))
        return NULL;
    struct reader r = {.out = a, .scratch = arena_new(), .e = e, .name = arena_strdup(a, name)};
    yaml_parser_t p;
    bool ok = yaml_parser_initialize(&p);
    if (!ok) {
        err_set(e, ERR_SYSTEM, err_at_name(name), "out of memory");
        goto done;
    }
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)text, length);
    ok = read_events(&r, &p, text) && is_tree(&r);
    yaml_parser_delete(&p);
done:
    arena_free(r.scratch);
    return ok ? r.root : NULL;
}

/* Opens without waiting for somebody to write into a pipe; reads do wait then. */
static int open_input(const char *path)
{
    if (strcmp(path, "-") == 0)
        return fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        fcntl(fd, F_SETFL, 0);
    return fd;
}

static bool check_kind(const char *path, const struct stat *s, struct err *e)
{
    bool is_stdin = strcmp(path, "-") == 0;
    if (S_ISDIR(s->st_mode))
        return err_set(e, ERR_INPUT, err_at_name(path), "is a folder, want a file");
    if (!S_ISREG(s->st_mode) && !S_ISFIFO(s->st_mode) && !is_stdin)
        return err_set(e, ERR_INPUT, err_at_name(path), "is a device or a socket, want a file");
    if (S_ISREG(s->st_mode) && s->st_size > CFG_FILE_LIMIT)
        return err_set(e, ERR_INPUT, err_at_name(path), "the file has %s, want at most 64 MiB",
                       qty_text((double)s->st_size, QTY_BYTES, QTY_BUF));
    return true;
}

/* Reads to the end, but never more than one byte over the limit: a file may grow, a pipe may never
 * end. */
static char *read_bytes(int fd, const char *path, size_t room, struct arena *a, size_t *length,
                        struct err *e)
{
    char *text = arena_alloc(a, room, 1);
    size_t used = 0;
    for (;;) {
        if (used == room) {
            char *larger = arena_alloc(a, 2 * room, 1);
            text = memcpy(larger, text, used);
            room *= 2;
        }
        ssize_t n = read(fd, text + used, room - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_set(e, ERR_SYSTEM, err_at_name(path), "cannot be read: %s", strerror(errno));
            return NULL;
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > CFG_FILE_LIMIT) {
            err_set(e, ERR_INPUT, err_at_name(path), "has over 64 MiB, which is the limit");
            return NULL;
        }
    }
    *length = used;
    return text;
}

struct cfg *cfg_read_file(const char *path, struct arena *a, struct err *e)
{
    struct cfg *root = NULL;
    struct arena *scratch = arena_new();
    struct stat s;
    size_t length;
    int fd = open_input(path);
    if (fd < 0 || fstat(fd, &s) != 0) {
        err_open(e, err_at_name(path));
        goto done;
    }
    if (!check_kind(path, &s, e))
        goto done;
    size_t room = S_ISREG(s.st_mode) ? (size_t)s.st_size + 1 : 64 * 1024;
    const char *text = read_bytes(fd, path, room, scratch, &length, e);
    if (text)
        root = cfg_read_text(strcmp(path, "-") == 0 ? "standard input" : path, text, length, a, e);
done:
    if (fd >= 0)
        close(fd);
    arena_free(scratch);
    return root;
}
