#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static void text_append(char *text, size_t size, const char *format, va_list args)
{
    size_t used = strlen(text);
    int n = vsnprintf(text + used, size - used, format, args);
    if (n < 0 || (size_t)n >= size - used)
        memcpy(text + size - 4, "...", 4);
}

static void text_add(char *text, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_append(text, size, format, args);
    va_end(args);
}

bool err_set(struct err *e, enum err_code code, struct err_at at, const char *format, ...)
{
    if (e->code != ERR_NONE)
        return false;
    e->code = code;
    e->text[0] = '\0';
    if (at.file)
        text_add(e->text, sizeof e->text, "%s:", at.file);
    if (at.line > 0)
        text_add(e->text, sizeof e->text, "%d:", at.line);
    if (at.line > 0 && at.column > 0)
        text_add(e->text, sizeof e->text, "%d:", at.column);
    if (e->text[0] != '\0')
        text_add(e->text, sizeof e->text, " ");
    va_list args;
    va_start(args, format);
    text_append(e->text, sizeof e->text, format, args);
    va_end(args);
    utf8_clean(e->text); /* values from files stand in messages: they may not rule the terminal */
    return false;
}

void err_prefix(struct err *e, const char *format, ...)
{
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    e->text[0] = '\0';
    va_list args;
    va_start(args, format);
    text_append(e->text, sizeof e->text, format, args);
    va_end(args);
    text_add(e->text, sizeof e->text, ": %s", old);
    utf8_clean(e->text);
}

bool err_open(struct err *e, struct err_at at)
{
    static const int named_wrongly[] = {ENOENT, ENOTDIR, EISDIR, ENAMETOOLONG, ELOOP};
    int reason = errno;
    enum err_code code = ERR_SYSTEM;
    for (size_t i = 0; i < sizeof named_wrongly / sizeof *named_wrongly; i++)
        if (reason == named_wrongly[i])
            code = ERR_INPUT;
    return err_set(e, code, at, "cannot be opened: %s", strerror(reason));
}

struct err_at err_at_name(const char *name)
{
    return (struct err_at){.file = name};
}
