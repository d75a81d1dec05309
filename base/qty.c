#include "base/qty.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cloc.h"

struct prefix {
    const char *name;
    double times;
    int decimal, binary; /* times = 10^decimal * 2^binary, for exact whole numbers */
};

static const struct prefix prefixes[] = {
    {"", 1, 0, 0},         {"k", 1e3, 3, 0},      {"M", 1e6, 6, 0},      {"G", 1e9, 9, 0},
    {"T", 1e12, 12, 0},    {"P", 1e15, 15, 0},    {"E", 1e18, 18, 0},    {"Ki", 0x1p10, 0, 10},
    {"Mi", 0x1p20, 0, 20}, {"Gi", 0x1p30, 0, 30}, {"Ti", 0x1p40, 0, 40}, {"Pi", 0x1p50, 0, 50},
};
enum { PREFIXES = sizeof prefixes / sizeof prefixes[0] };

/* A value in this unit is value * times / over in SI: both factors are whole, so "12.5 ms" is the
 * double nearest to 0.0125, which 12.5 * 1e-3 need not be. */
struct unit {
    enum qty_dim dim;
    const char *name;
    bool prefixed;
    double times, over;
};

static const struct unit units[] = {
    {QTY_NUMBER, "", true, 1, 1},
    {QTY_RATIO, "", false, 1, 1},
    {QTY_RATIO, "%", false, 1, 100},
    {QTY_BYTES, "B", true, 1, 1},
    {QTY_BYTES, "b", true, 1, 8},
    {QTY_BYTES, "bit", true, 1, 8},
    {QTY_BYTES_PER_S, "B/s", true, 1, 1},
    {QTY_BYTES_PER_S, "b/s", true, 1, 8},
    {QTY_BYTES_PER_S, "bit/s", true, 1, 8},
    {QTY_BYTES_PER_S, "bps", true, 1, 8},
    {QTY_SECONDS, "s", false, 1, 1},
    {QTY_SECONDS, "ms", false, 1, 1e3},
    {QTY_SECONDS, "us", false, 1, 1e6},
    {QTY_SECONDS, "\u00b5s", false, 1, 1e6}, /* micro sign */
    {QTY_SECONDS, "\u03bcs", false, 1, 1e6}, /* Greek mu */
    {QTY_SECONDS, "ns", false, 1, 1e9},
    {QTY_SECONDS, "ps", false, 1, 1e12},
    {QTY_SECONDS, "min", false, 60, 1},
    {QTY_SECONDS, "h", false, 3600, 1},
    {QTY_SECONDS, "d", false, 86400, 1},
    {QTY_FLOP, "FLOP", true, 1, 1},
    {QTY_FLOP_PER_S, "FLOP/s", true, 1, 1},
    {QTY_FLOP_PER_S, "FLOPS", true, 1, 1},
};
enum { UNITS = sizeof units / sizeof units[0] };

struct dim_words {
    const char *is, *want;
};

static const struct dim_words words[QTY_DIMS] = {
    [QTY_NUMBER] = {"a number without a unit", "a number without a unit such as '520k' or '0.25'"},
    [QTY_RATIO] = {"a share", "a share such as '0.9' or '90%'"},
    [QTY_BYTES] = {"a size", "a size such as '64 GiB'"},
    [QTY_BYTES_PER_S] = {"a rate", "a rate such as '450 GB/s'"},
    [QTY_SECONDS] = {"a time", "a time such as '12.5 ms'"},
    [QTY_FLOP] = {"an amount of work", "an amount of work such as '53.5 PFLOP'"},
    [QTY_FLOP_PER_S] = {"a speed", "a speed such as '989 TFLOP/s'"},
};

/* What the user wrote, short enough for a message. */
struct shown {
    char text[48];
};

static struct shown shown(const char *text)
{
    struct shown s;
    int n = snprintf(s.text, sizeof s.text, "%.40s", text);
    if (n >= 40 && text[40] != '\0')
        strcpy(s.text + 40, "...");
    return s;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *s)
{
    while (is_digit(*s))
        s++;
    return s;
}

static const char *skip_blanks(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

/* The end of a decimal number at s, or NULL: digits with at most one point, then an exponent if
 * digits follow the e ("1E" is one exa). */
static const char *number_end(const char *s)
{
    const char *whole = skip_digits(s), *end = whole;
    if (*whole == '.')
        end = skip_digits(whole + 1);
    if (end - s == (*whole == '.'))
        return NULL; /* no digit at all */
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1 + (end[1] == '+' || end[1] == '-');
        if (is_digit(*exponent))
            end = skip_digits(exponent);
    }
    return end;
}

static double number_value(const char *s)
{
    struct cloc l = cloc_enter();
    double value = strtod(s, NULL);
    cloc_leave(l);
    return value;
}

/* The unit `name` (not ended by NUL, `length` bytes) of dimension dim; *times and *over convert to
 * SI. */
static bool unit_find(const char *name, size_t length, enum qty_dim dim, double *times,
                      double *over)
{
    for (const struct unit *u = units; u < units + UNITS; u++) {
        for (int p = 0; u->dim == dim && p < (u->prefixed ? PREFIXES : 1); p++) {
            size_t head = strlen(prefixes[p].name), tail = strlen(u->name);
            if (head + tail == length && memcmp(name, prefixes[p].name, head) == 0 &&
                memcmp(name + head, u->name, tail) == 0) {
                *times = u->times * prefixes[p].times;
                *over = u->over;
                return true;
            }
        }
    }
    return false;
}

static bool unit_refuse(const char *text, const char *unit, size_t length, enum qty_dim dim,
                        const char *what, struct err_at at, struct err *e)
{
    struct shown s = shown(text);
    const char *want = words[dim].want;
    double times, over;
    if (length == 0)
        return err_set(e, ERR_INPUT, at, "%s: '%s' has no unit, want %s", what, s.text, want);
    for (enum qty_dim other = QTY_RATIO; other < QTY_DIMS; other++)
        if (unit_find(unit, length, other, &times, &over))
            return err_set(e, ERR_INPUT, at, "%s: '%s' is %s, want %s", what, s.text,
                           words[other].is, want);
    if (unit[0] == 'K' && unit[1] != 'i')
        return err_set(e, ERR_INPUT, at, "%s: the K of '%s' could be 1000 or 1024, want k or Ki",
                       what, s.text);
    struct shown u = shown(unit);
    return err_set(e, ERR_INPUT, at, "%s: '%s' has the unknown unit '%.*s', want %s", what, s.text,
                   length < sizeof u.text ? (int)length : (int)sizeof u.text, u.text, want);
}

/* Says why `text` is not even a number. */
static bool number_refuse(const char *text, enum qty_dim dim, const char *what, struct err_at at,
                          struct err *e)
{
    struct shown s = shown(text);
    const char *want = words[dim].want, *start = skip_blanks(text);
    if (*start == '\0')
        return err_set(e, ERR_INPUT, at, "%s: nothing is given, want %s", what, want);
    if (*start == '-' && number_end(start + 1))
        return err_set(e, ERR_INPUT, at, "%s: '%s' is negative, want %s", what, s.text, want);
    return err_set(e, ERR_INPUT, at, "%s: '%s' is not a number, want %s", what, s.text, want);
}

/* The end of text without trailing blanks. */
static const char *text_end(const char *text)
{
    const char *end = text + strlen(text);
    while (end > text && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return end;
}

bool qty_parse(const char *text, enum qty_dim dim, const char *what, struct err_at at, double *si,
               struct err *e)
{
    const char *start = skip_blanks(text), *end = number_end(start);
    if (!end)
        return number_refuse(text, dim, what, at, e);
    const char *unit = skip_blanks(end), *last = text_end(unit);
    double times, over;
    if (!unit_find(unit, (size_t)(last - unit), dim, &times, &over))
        return unit_refuse(text, unit, (size_t)(last - unit), dim, what, at, e);
    double value = number_value(start) * times / over;
    if (!isfinite(value))
        return err_set(e, ERR_INPUT, at, "%s: '%s' is too large, want %s", what, shown(text).text,
                       words[dim].want);
    *si = value;
    return true;
}

/* digits * 10^decimal * 2^binary, exactly. */
struct exact {
    uint64_t digits;
    int decimal, binary;
};

/* Reads the number from s to end. False when it has more significant digits than 64 bits hold. */
static bool exact_read(const char *s, const char *end, struct exact *x)
{
    *x = (struct exact){0};
    bool fraction = false;
    int zeros = 0; /* zeros seen since the last other digit: they count only if one follows */
    for (; s < end && *s != 'e' && *s != 'E'; s++) {
        if (*s == '.') {
            fraction = true;
            continue;
        }
        x->decimal -= fraction;
        if (*s == '0') {
            zeros++;
            continue;
        }
        for (; x->digits && zeros > 0; zeros--)
            if (__builtin_mul_overflow(x->digits, 10, &x->digits))
                return false;
        zeros = 0;
        if (__builtin_mul_overflow(x->digits, 10, &x->digits) ||
            __builtin_add_overflow(x->digits, (uint64_t)(*s - '0'), &x->digits))
            return false;
    }
    x->decimal += zeros;
    if (s < end) {
        long exponent = strtol(s + 1, NULL, 10);
        x->decimal += exponent > 100000 ? 100000 : exponent < -100000 ? -100000 : (int)exponent;
    }
    return true;
}

enum whole { WHOLE_OK, WHOLE_FRACTION, WHOLE_TOO_LARGE };

static enum whole exact_whole(struct exact x, uint64_t *whole)
{
    *whole = x.digits;
    if (x.digits == 0)
        return WHOLE_OK;
    for (; x.decimal < 0; x.decimal++) { /* divide by 5, and by 2 or one power of two less */
        if (*whole % 5 != 0 || (*whole % 2 != 0 && x.binary == 0))
            return WHOLE_FRACTION;
        *whole /= 5;
        if (x.binary > 0)
            x.binary--;
        else
            *whole /= 2;
    }
    for (; x.decimal > 0; x.decimal--)
        if (__builtin_mul_overflow(*whole, 10, whole))
            return WHOLE_TOO_LARGE;
    for (; x.binary > 0; x.binary--)
        if (__builtin_mul_overflow(*whole, 2, whole))
            return WHOLE_TOO_LARGE;
    return WHOLE_OK;
}

static const struct prefix *prefix_find(const char *name, size_t length)
{
    for (const struct prefix *p = prefixes; p < prefixes + PREFIXES; p++)
        if (strlen(p->name) == length && memcmp(p->name, name, length) == 0)
            return p;
    return NULL;
}

/* The magnitude of the whole number in `text`, which has no sign. */
static enum whole whole_read(const char *text, uint64_t *whole)
{
    const char *end = number_end(text);
    if (!end)
        return WHOLE_FRACTION;
    const char *unit = skip_blanks(end), *last = text_end(unit);
    const struct prefix *p = prefix_find(unit, (size_t)(last - unit));
    struct exact x;
    if (!p)
        return WHOLE_FRACTION;
    if (!exact_read(text, end, &x))
        return WHOLE_TOO_LARGE;
    x.decimal += p->decimal;
    x.binary += p->binary;
    return exact_whole(x, whole);
}

bool qty_parse_int(const char *text, int64_t least, int64_t most, const char *what,
                   struct err_at at, int64_t *value, struct err *e)
{
    const char *start = skip_blanks(text);
    bool minus = *start == '-';
    uint64_t whole = 0, limit = (uint64_t)INT64_MAX + minus;
    enum whole is = whole_read(start + minus, &whole);
    if (is == WHOLE_FRACTION)
        return err_set(e, ERR_INPUT, at,
                       "%s: '%s' is not a whole number, want one from %lld to %lld", what,
                       shown(text).text, (long long)least, (long long)most);
    bool fits = is == WHOLE_OK && whole <= limit;
    int64_t v = !fits ? 0 : minus ? (int64_t)(0 - whole) : (int64_t)whole;
    if (!fits || v < least || v > most)
        return err_set(e, ERR_INPUT, at,
                       "%s: '%s' is out of range, want a whole number from %lld to %lld", what,
                       shown(text).text, (long long)least, (long long)most);
    *value = v;
    return true;
}

/* One unit of print: a value in it is si * over / times, and it is used below `below` of itself. */
struct printed {
    const char *unit;
    double times, over, below;
};

static const struct printed times[] = {
    {" ps", 1, 1e12, 1000}, {" ns", 1, 1e9, 1000},      {" us", 1, 1e6, 1000},
    {" ms", 1, 1e3, 1000},  {" s", 1, 1, 120},          {" min", 60, 1, 120},
    {" h", 3600, 1, 48},    {" d", 86400, 1, INFINITY},
};
static const struct printed percents[] = {{"%", 1, 100, INFINITY}};
static const struct printed decimals[] = {
    {"", 1, 1, 1000},     {"k", 1e3, 1, 1000},  {"M", 1e6, 1, 1000},      {"G", 1e9, 1, 1000},
    {"T", 1e12, 1, 1000}, {"P", 1e15, 1, 1000}, {"E", 1e18, 1, INFINITY},
};

struct printing {
    const struct printed *rows;
    const char *before, *after; /* around the prefix */
    bool counts;                /* whole values without a prefix have no fraction: "512 B" */
};

static const struct printing printings[QTY_DIMS] = {
    [QTY_NUMBER] = {decimals, "", "", true},
    [QTY_RATIO] = {percents, "", "", false},
    [QTY_BYTES] = {decimals, " ", "B", true},
    [QTY_BYTES_PER_S] = {decimals, " ", "B/s", false},
    [QTY_SECONDS] = {times, "", "", false},
    [QTY_FLOP] = {decimals, " ", "FLOP", false},
    [QTY_FLOP_PER_S] = {decimals, " ", "FLOP/s", false},
};

/* Four significant digits of a value, as they would be printed, so that 999.96 becomes 1000 in time
 * to choose the next unit. */
static double four_digits(double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.3e", value);
    return strtod(text, NULL);
}

static int decimals_of(double value, bool whole)
{
    double size = fabs(value);
    if (whole && value == floor(value) && size < 1000)
        return 0;
    return size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
}

/* The row without a prefix, "0 s" rather than "0 ps"; the first where there is none. */
static const struct printed *printed_zero(const struct printed *first)
{
    for (const struct printed *row = first;; row++)
        if (row->times == row->over)
            return row;
        else if (isinf(row->below))
            return first;
}

static const struct printed *printed_choose(const struct printed *row, double si)
{
    if (si == 0)
        return printed_zero(row);
    while (fabs(four_digits(si * row->over / row->times)) >= row->below)
        row++;
    return row;
}

const char *qty_text(double si, enum qty_dim dim, char *text, size_t size)
{
    struct cloc l = cloc_enter();
    const struct printing *p = &printings[dim];
    const struct printed *row = isfinite(si) ? printed_choose(p->rows, si) : p->rows;
    double value = si * row->over / row->times, rounded = fabs(four_digits(value));
    if (!isfinite(value))
        snprintf(text, size, "%s", isnan(si) ? "nan" : si > 0 ? "inf" : "-inf");
    else if (rounded != 0 && (rounded < 1 || rounded >= 1e6))
        snprintf(text, size, "%.4g%s%s%s", value, p->before, row->unit, p->after);
    else
        snprintf(text, size, "%.*f%s%s%s",
                 value == 0
                     ? 0
                     : decimals_of(rounded, p->counts && row == p->rows && rounded == fabs(value)),
                 value + 0.0, p->before, row->unit, p->after);
    cloc_leave(l);
    return text;
}

const char *qty_exact(double value, char *text, size_t size)
{
    struct cloc l = cloc_enter();
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    cloc_leave(l);
    return text;
}
