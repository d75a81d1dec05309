/* Error bars of sums and of differences. */
#include "model/interval.h"

#include <math.h>

struct interval interval_of(double value_s, double half)
{
    double factor = exp(half);
    return (struct interval){
        .value_s = value_s, .low_s = value_s / factor, .high_s = value_s * factor};
}

struct interval interval_sum(const double *time_s, const double *half, int count)
{
    double sum = 0, squares = 0;
    for (int c = 0; c < count; c++) {
        sum += time_s[c];
        squares += time_s[c] * half[c] * (time_s[c] * half[c]);
    }
    return interval_of(sum, sum > 0 ? sqrt(squares) / sum : 0);
}

bool interval_tie(const double *a_s, const double *b_s, const double *half, int count, int *widest)
{
    double difference = 0, squares = 0, most = 0;
    int class = -1;
    for (int c = 0; c < count; c++) {
        double doubt = fabs(a_s[c] - b_s[c]) * half[c];
        difference += a_s[c] - b_s[c];
        squares += doubt * doubt;
        if (doubt > most) {
            most = doubt;
            class = c;
        }
    }
    if (widest)
        *widest = class;
    return fabs(difference) <= sqrt(squares);
}
