/* The figures of one run of a load client. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>

#include "loop.h"

void report_start(struct report *r)
{
    *r = (struct report){.begun = now()};
}

void report_failure(struct report *r, const char *what, const char *why)
{
    if (!r->failed++)
        snprintf(r->error, sizeof r->error, "%s: %s", what, why ? why : "");
}

void report_time(struct report *r, double seconds)
{
    if (r->timed == r->room) {
        r->room = r->room ? 2 * r->room : 1024;
        r->times = realloc(r->times, r->room * sizeof *r->times);
    }
    r->times[r->timed++] = seconds;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(struct report *r, double part)
{
    return r->timed ? r->times[(long)((r->timed - 1) * part)] : 0;
}

int report_end(struct report *r, bool finished)
{
    double seconds = now() - r->begun;
    if (!finished)
        report_failure(r, "no progress", "gave up waiting");
    /* Text of a server goes into JSON: what would need an escape is taken out. */
    for (char *p = r->error; *p; p++)
        if (*p == '"' || *p == '\\' || *p < ' ' || *p > '~')
            *p = ' ';
    if (r->timed)
        qsort(r->times, r->timed, sizeof *r->times, by_size);
    printf("{\"done\": %ld, \"failed\": %ld, \"seconds\": %.6f, \"client_cpu\": %.4f, \"median\": %.6f, \"p99\": %.6f, "
           "\"error\": \"%s\"}\n",
           r->done, r->failed, seconds, cpu_seconds(), quantile(r, 0.5), quantile(r, 0.99), r->error);
    return r->failed != 0;
}
