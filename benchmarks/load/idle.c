/* Idle sessions: opened, greeted, and held until standard input ends.
 *
 *   load idle PORT COUNT WHAT
 *
 * WHAT is `smtp` (after EHLO), `starttls` (after EHLO within TLS) or `pop3` (after the greeting). When all stand,
 * or when one could not be had, one line of JSON is printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "report.h"

enum { AT_ONCE = 16, PATIENCE = 60 };
enum what { SMTP, STARTTLS, POP3 };

struct session {
    int said; /* commands */
};

static int port;
static long count, opened, standing;
static enum what what;
static struct report report;
static bool told;

static void open_session(void);

static void tell(bool finished)
{
    if (told)
        return;
    told = true;
    loop_hold();
    report.done = standing;
    report_end(&report, finished);
    fflush(stdout);
}

static void stands(void)
{
    loop_moved();
    if (++standing == count)
        tell(true);
    else if (opened < count)
        open_session();
}

static void on_line(struct connection *c, char *line)
{
    struct session *s = c->mine;
    if (*line != '+' && (*line < '2' || *line > '3')) {
        report_failure(&report, "refused", line);
        tell(true);
        loop_stop();
        return;
    }
    if (strlen(line) > 3 && line[3] == '-')
        return;
    if (what == POP3) {
        stands();
        return;
    }
    switch (s->said++) {
    case 0:
        say(c, "EHLO client.test\r\n");
        break;
    case 1:
        if (what == SMTP)
            stands();
        else
            say(c, "STARTTLS\r\n");
        break;
    case 2:
        secure(c);
        break;
    default:
        stands();
    }
}

static void on_secured(struct connection *c) { say(c, "EHLO client.test\r\n"); }

static void on_lost(struct connection *c, const char *why)
{
    report_failure(&report, "lost", why);
    free(c->mine);
    tell(true);
    loop_stop();
}

static const struct manner manner = {.line = on_line, .secured = on_secured, .lost = on_lost};

static void open_session(void)
{
    opened++;
    connect_to(port, &manner, calloc(1, sizeof(struct session)));
}

int idle_load(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    port = atoi(argv[0]);
    count = atol(argv[1]);
    what = !strcmp(argv[2], "smtp") ? SMTP : !strcmp(argv[2], "starttls") ? STARTTLS : POP3;
    loop_start();
    watch_input();
    report_start(&report);
    for (int i = 0; i < AT_ONCE && opened < count; i++)
        open_session();
    tell(loop_run(PATIENCE));
    return report.failed != 0;
}
