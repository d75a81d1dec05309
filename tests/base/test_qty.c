/* Expected numbers are the definitions of the units (SI prefixes, IEC 80000-13 binary prefixes, 8
 * bits a byte). */
#include "base/qty.h"

#include <locale.h>
#include <math.h>

#include "base/rng.h"
#include "tests/base/check.h"

static const struct err_at here = {"f.yaml", 7, 22};

static void units_become_si(void)
{
    static const struct {
        const char *text;
        enum qty_dim dim;
        double si;
    } rows[] = {
        {"0.25", QTY_NUMBER, 0.25},
        {"1e9", QTY_NUMBER, 1e9},
        {"520k", QTY_NUMBER, 520e3},
        {"64Ki", QTY_NUMBER, 65536},
        {"1E", QTY_NUMBER, 1e18},
        {"1E3", QTY_NUMBER, 1e3},
        {" .5 ", QTY_NUMBER, 0.5},
        {"5.", QTY_NUMBER, 5},
        {"90%", QTY_RATIO, 0.9},
        {"52.4 %", QTY_RATIO, 0.524},
        {"0.9", QTY_RATIO, 0.9},
        {"64 GiB", QTY_BYTES, 68719476736.0},
        {"80 GB", QTY_BYTES, 80e9},
        {"4096 B", QTY_BYTES, 4096},
        {"1 b", QTY_BYTES, 0.125},
        {"8 Mbit", QTY_BYTES, 1e6},
        {"450 GB/s", QTY_BYTES_PER_S, 450e9},
        {"400 Gb/s", QTY_BYTES_PER_S, 50e9},
        {"400Gbit/s", QTY_BYTES_PER_S, 50e9},
        {"400 Gbps", QTY_BYTES_PER_S, 50e9},
        {"3.35 TB/s", QTY_BYTES_PER_S, 3.35e12},
        {"5us", QTY_SECONDS, 5e-6},
        {"5 \u00b5s", QTY_SECONDS, 5e-6},
        {"5 \u03bcs", QTY_SECONDS, 5e-6},
        {"12.5 ms", QTY_SECONDS, 0.0125},
        {"0.3 ns", QTY_SECONDS, 0.3e-9},
        {"7 ps", QTY_SECONDS, 7e-12},
        {"3 s", QTY_SECONDS, 3},
        {"2 min", QTY_SECONDS, 120},
        {"1 h", QTY_SECONDS, 3600},
        {"1 d", QTY_SECONDS, 86400},
        {"53.5 PFLOP", QTY_FLOP, 53.5e15},
        {"989 TFLOP/s", QTY_FLOP_PER_S, 989e12},
        {"989 TFLOPS", QTY_FLOP_PER_S, 989e12},
        {"0 B", QTY_BYTES, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};
        double si = -1;
        gsl_test(!qty_parse(rows[i].text, rows[i].dim, "x", here, &si, &e), "reads '%s' %s",
                 rows[i].text, e.text);
        gsl_test(si != rows[i].si, "'%s' is exactly %.17g, got %.17g", rows[i].text, rows[i].si,
                 si);
    }
}

static void a_message_names_the_place_the_value_and_what_is_wanted(void)
{
    static const struct {
        const char *text;
        enum qty_dim dim;
        const char *message;
    } rows[] = {
        {"450 GB", QTY_BYTES_PER_S, "'450 GB' is a size, want a rate such as '450 GB/s'"},
        {"450 GB/s", QTY_BYTES, "'450 GB/s' is a rate, want a size such as '64 GiB'"},
        {"5 ms", QTY_BYTES, "'5 ms' is a time, want a size such as '64 GiB'"},
        {"5 TFLOP", QTY_FLOP_PER_S,
         "'5 TFLOP' is an amount of work, want a speed such as '989 TFLOP/s'"},
        {"5 TFLOP/s", QTY_FLOP,
         "'5 TFLOP/s' is a speed, want an amount of work such as '53.5 PFLOP'"},
        {"90%", QTY_NUMBER,
         "'90%' is a share, want a number without a unit such as '520k' or '0.25'"},
        {"450", QTY_BYTES_PER_S, "'450' has no unit, want a rate such as '450 GB/s'"},
        {"3 parsec", QTY_SECONDS,
         "'3 parsec' has the unknown unit 'parsec', want a time such as '12.5 ms'"},
        {"3 s s", QTY_SECONDS, "'3 s s' has the unknown unit 's s', want a time such as '12.5 ms'"},
        {"1 KB", QTY_BYTES, "the K of '1 KB' could be 1000 or 1024, want k or Ki"},
        {"1 kF", QTY_RATIO,
         "'1 kF' has the unknown unit 'kF', want a share such as '0.9' or '90%'"},
        {"-5 us", QTY_SECONDS, "'-5 us' is negative, want a time such as '12.5 ms'"},
        {"nan", QTY_RATIO, "'nan' is not a number, want a share such as '0.9' or '90%'"},
        {"inf", QTY_RATIO, "'inf' is not a number, want a share such as '0.9' or '90%'"},
        {"0x10", QTY_RATIO,
         "'0x10' has the unknown unit 'x10', want a share such as '0.9' or '90%'"},
        {"1e400", QTY_RATIO, "'1e400' is too large, want a share such as '0.9' or '90%'"},
        {"1e308 EB", QTY_BYTES, "'1e308 EB' is too large, want a size such as '64 GiB'"},
        {"", QTY_RATIO, "nothing is given, want a share such as '0.9' or '90%'"},
        {"  ", QTY_RATIO, "nothing is given, want a share such as '0.9' or '90%'"},
        {".", QTY_RATIO, "'.' is not a number, want a share such as '0.9' or '90%'"},
        {"fast", QTY_RATIO, "'fast' is not a number, want a share such as '0.9' or '90%'"},
        {"12345678901234567890123456789012345678901234567890", QTY_SECONDS,
         "'1234567890123456789012345678901234567890...' has no unit, want a time such as '12.5 "
         "ms'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};
        double si = 42;
        char want[300];
        snprintf(want, sizeof want, "f.yaml:7:22: nvlink.bandwidth: %s", rows[i].message);
        bool ok = qty_parse(rows[i].text, rows[i].dim, "nvlink.bandwidth", here, &si, &e);
        gsl_test(ok || si != 42, "'%s' is refused and leaves the output alone", rows[i].text);
        check_refused(&e, ERR_INPUT, want);
    }
}

static void whole_numbers_are_exact(void)
{
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {
        {"520k", 520000},
        {"1.5k", 1500},
        {"1.5Ki", 1536},
        {"0.0009765625Mi", 1024}, /* 2^-10 Mi */
        {"1e3", 1000},
        {"1.000", 1},
        {"100e-2", 1},
        {"1200000e-5", 12},
        {"007", 7},
        {"-3", -3},
        {"0", 0},
        {"0e99999999999", 0},
        {"9223372036854775807", INT64_MAX},
        {"9007199254740993", 9007199254740993}, /* 2^53 + 1: no double holds it */
        {"-9223372036854775808", INT64_MIN},
        {"9.223372036854775807E", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};
        int64_t v = 42;
        gsl_test(!qty_parse_int(rows[i].text, INT64_MIN, INT64_MAX, "n", here, &v, &e) ||
                     v != rows[i].value,
                 "'%s' is %lld, got %lld %s", rows[i].text, (long long)rows[i].value, (long long)v,
                 e.text);
    }
}

static void what_is_not_whole_or_not_in_range_is_refused(void)
{
    static const char *const fractions[] = {"1.0005k", "0.5", "1e-1", "2.5e-400", "0.1Ki",
                                            "seven",   "",    "1 GB", "nan",      "+3",
                                            "--3",     "1K",  "3 4"};
    static const char *const outside[] = {"0",
                                          "65",
                                          "-1",
                                          "1e300",
                                          "9223372036854775808",
                                          "99999999999999999999",
                                          "18446744073709551616",
                                          "1e99999999999999999999"};
    for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
        struct err e = {0};
        int64_t v = 42;
        char want[200];
        snprintf(want, sizeof want,
                 "f.yaml:7:22: n: '%s' is not a whole number, want one from 1 to 64", fractions[i]);
        gsl_test(qty_parse_int(fractions[i], 1, 64, "n", here, &v, &e) || v != 42,
                 "'%s' is no whole number", fractions[i]);
        check_refused(&e, ERR_INPUT, want);
    }
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        struct err e = {0};
        int64_t v = 42;
        char want[200];
        snprintf(want, sizeof want,
                 "f.yaml:7:22: n: '%s' is out of range, want a whole number from 1 to 64",
                 outside[i]);
        gsl_test(qty_parse_int(outside[i], 1, 64, "n", here, &v, &e) || v != 42,
                 "'%s' is out of range", outside[i]);
        check_refused(&e, ERR_INPUT, want);
    }
}

static void text_has_four_digits_and_a_readable_prefix(void)
{
    static const struct {
        double si;
        enum qty_dim dim;
        const char *text;
    } rows[] = {
        {1.22e-3, QTY_SECONDS, "1.220 ms"},
        {26.214e9, QTY_BYTES, "26.21 GB"},
        {0.52396, QTY_RATIO, "52.40%"},
        {520e3, QTY_NUMBER, "520.0k"},
        {64, QTY_NUMBER, "64"},
        {0.25, QTY_NUMBER, "0.25"},
        {512, QTY_BYTES, "512 B"},
        {1536, QTY_BYTES, "1.536 kB"},
        {50e9, QTY_BYTES_PER_S, "50.00 GB/s"},
        {989e12, QTY_FLOP_PER_S, "989.0 TFLOP/s"},
        {53.5e15, QTY_FLOP, "53.50 PFLOP"},
        {0, QTY_SECONDS, "0 s"},
        {999.96e-6, QTY_SECONDS, "1.000 ms"},
        {999.94e-6, QTY_SECONDS, "999.9 us"},
        {119, QTY_SECONDS, "119.0 s"},
        {120, QTY_SECONDS, "2.000 min"},
        {7200, QTY_SECONDS, "2.000 h"},
        {3 * 86400, QTY_SECONDS, "3.000 d"},
        {-1.22e-3, QTY_SECONDS, "-1.220 ms"},
        {1, QTY_RATIO, "100.0%"},
        {NAN, QTY_SECONDS, "nan"},
        {INFINITY, QTY_BYTES, "inf"},
        {-INFINITY, QTY_BYTES, "-inf"},
        {999960, QTY_NUMBER, "1.000M"},
        {0, QTY_BYTES, "0 B"},
        {0, QTY_RATIO, "0%"},
        {0.3e-12, QTY_SECONDS, "0.3 ps"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_text(qty_text(rows[i].si, rows[i].dim, QTY_BUF), rows[i].text, "qty_text");
}

static void text_reads_back_within_four_digits(void)
{
    struct rng r = rng_stream(1, "qty", 0, 0, 0);
    double worst = 0;
    bool all_read = true;
    for (int i = 0; i < 20000; i++) {
        double si = pow(10, 30 * rng_uniform(&r) - 12), back = 0;
        enum qty_dim dim = (enum qty_dim)rng_below(&r, QTY_DIMS);
        struct err e = {0};
        all_read &= qty_parse(qty_text(si, dim, QTY_BUF), dim, "x", here, &back, &e);
        worst = fmax(worst, fabs(back / si - 1));
    }
    gsl_test(!all_read, "each text of 20000 reads back");
    gsl_test(worst > 0.5e-3 * (1 + 1e-9), "half a unit of the fourth digit: worst %g", worst);
}

static void exact_text_reads_back_as_the_same_double(void)
{
    struct rng r = rng_stream(1, "exact", 0, 0, 0);
    int wrong = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&r);
        double x;
        memcpy(&x, &bits, sizeof x);
        wrong += isfinite(x) && strtod(qty_exact(x, QTY_BUF), NULL) != x;
    }
    gsl_test(wrong, "%d of 20000 doubles of all sizes differ", wrong);
    check_text(qty_exact(0.1, QTY_BUF), "0.1", "the shortest");
    check_text(qty_exact(1e20, QTY_BUF), "1e+20", "the shortest");
    check_text(qty_exact(1.0 / 3, QTY_BUF), "0.3333333333333333", "16 digits do");
}

/* Reached only where such a locale is installed. */
static void a_comma_locale_changes_nothing(void)
{
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
        return;
    struct err e = {0};
    double si = 0;
    gsl_test(!qty_parse("12.5 ms", QTY_SECONDS, "x", here, &si, &e) || si != 0.0125,
             "point in a comma locale");
    check_text(qty_text(0.0125, QTY_SECONDS, QTY_BUF), "12.50 ms", "point in a comma locale");
    check_text(qty_exact(0.5, QTY_BUF), "0.5", "point in a comma locale");
    setlocale(LC_ALL, "C");
}

int main(void)
{
    units_become_si();
    a_message_names_the_place_the_value_and_what_is_wanted();
    whole_numbers_are_exact();
    what_is_not_whole_or_not_in_range_is_refused();
    text_has_four_digits_and_a_readable_prefix();
    text_reads_back_within_four_digits();
    exact_text_reads_back_as_the_same_double();
    a_comma_locale_changes_nothing();
    return gsl_test_summary();
}
