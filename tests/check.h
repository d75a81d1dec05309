/* The test functions of <gsl/gsl_test.h>, or the same few in small where GSL is missing (machines
 * with only a GPU), so that the kernels' tests run there too. A test fails when gsl_test's first
 * argument is true; NaN fails every comparison. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#ifdef SHARDWISE_HAVE_GSL
#include <gsl/gsl_test.h>
#else

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static int check_count, check_failed;

static inline void check_report(int failed, const char *what, va_list args)
{
    check_count++;
    if (!failed)
        return;
    check_failed++;
    fputs("FAIL: ", stdout);
    vprintf(what, args);
    putchar('\n');
}

#define CHECK_FUNCTION(name, type, failed)                                                         \
    static inline void name type                                                                   \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, what);                                                                      \
        check_report(failed, what, args);                                                          \
        va_end(args);                                                                              \
    }
CHECK_FUNCTION(gsl_test, (int failed, const char *what, ...), failed)
CHECK_FUNCTION(gsl_test_int, (int result, int expected, const char *what, ...), result != expected)
CHECK_FUNCTION(gsl_test_abs, (double result, double expected, double error, const char *what, ...),
               !(fabs(result - expected) <= error))
CHECK_FUNCTION(gsl_test_rel, (double result, double expected, double error, const char *what, ...),
               !(fabs(result - expected) <= error * (expected != 0 ? fabs(expected) : 1)))

static inline int gsl_test_summary(void)
{
    printf("%d of %d checks failed\n", check_failed, check_count);
    return check_failed != 0;
}

#endif
#endif
