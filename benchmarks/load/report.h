/* What a run came to, as one line of JSON on standard output. */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>

struct report {
    double begun;
    long done, failed;
    char error[200]; /* the first failure */
    float *times;    /* of what was measured one by one, in seconds */
    long timed, room;
};

void report_start(struct report *);
void report_failure(struct report *, const char *what, const char *why);
void report_time(struct report *, double seconds);
/* Gives the exit status: 0 when nothing failed. */
int report_end(struct report *, bool finished);

int smtp_load(int argc, char **argv);
int handshake_load(int argc, char **argv);
int pop3_load(int argc, char **argv);
int idle_load(int argc, char **argv);
int sink(int argc, char **argv);

#endif
