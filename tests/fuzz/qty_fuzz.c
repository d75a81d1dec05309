/* Any text as a quantity: no crash, and what is read is finite, not negative, and prints as a text
 * that reads back to within half a unit of the fourth digit. */
#include "base/qty.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void check_quantity(const char *text, enum qty_dim dim)
{
    double si = -1, back = -1;
    struct err e = {0};
    if (!qty_parse(text, dim, "x", err_at_name("f"), &si, &e)) {
        if (e.code != ERR_INPUT || si != -1)
            abort();
        return;
    }
    if (!isfinite(si) || si < 0)
        abort();
    if (si > 1e300) /* its rounded text may be over the largest double */
        return;
    if (!qty_parse(qty_text(si, dim, QTY_BUF), dim, "x", err_at_name("f"), &back, &e))
        abort();
    if (fabs(back - si) > 0.50001e-3 * si && si > 1e-290)
        abort();
    if (!qty_parse(qty_exact(si, QTY_BUF), QTY_NUMBER, "x", err_at_name("f"), &back, &e) ||
        back != si)
        abort();
}

/* A whole number that is read is the number that the double reader sees, rounded. */
static void check_whole(const char *text)
{
    int64_t value;
    double number;
    struct err e = {0};
    if (!qty_parse_int(text, 0, INT64_MAX, "x", err_at_name("f"), &value, &e))
        return;
    if (!qty_parse(text + strspn(text, " \t-"), QTY_NUMBER, "x", err_at_name("f"), &number, &e) ||
        fabs(number - (double)value) > 1e-15 * number)
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    for (enum qty_dim dim = QTY_NUMBER; dim < QTY_DIMS; dim++)
        check_quantity(text, dim);
    check_whole(text);
    free(text);
    return 0;
}
