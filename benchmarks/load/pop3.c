/* POP3 load: sessions one after the other, each for the next of the users u00, u01 … (password "pass").
 *
 *   load pop3 PORT SESSIONS COUNT USERS WHAT
 *
 * WHAT is `drain` (STAT, RETR and then DELE of everything, QUIT), `login` (STAT, QUIT) or `poll` (STAT, UIDL, LIST,
 * QUIT). Commands are not pipelined. A user is in no more than one session at a time, so SESSIONS is at most USERS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "report.h"

enum { AT_ONCE = 8, PATIENCE = 60 };
enum state { GREETING, USER, PASS, STAT, UIDL, LIST, RETR, DELE, QUIT };
static const char *const names[] = {"greeting", "USER", "PASS", "STAT", "UIDL", "LIST", "RETR", "DELE", "QUIT"};
enum what { DRAIN, LOGIN, POLL };

struct session {
    enum state state;
    int user;
    long messages, current;
    double begun;
};

static struct {
    int port, sessions, users;
    long count;
    enum what what;
} order;
static struct report report;
static long started, opened, fetched;
static int *resting; /* users in no session, in the order in which they come */
static long rested, taken;

static void open_session(void);

static void command(struct connection *c, enum state state)
{
    struct session *s = c->mine;
    s->state = state;
    if (state == QUIT)
        c->leaving = true;
    if (state == USER)
        say(c, "USER u%02d\r\n", s->user);
    else if (state == PASS)
        say(c, "PASS pass\r\n");
    else if (state == RETR || state == DELE)
        say(c, "%s %ld\r\n", names[state], ++s->current);
    else
        say(c, "%s\r\n", names[state]);
}

static void after_stat(struct connection *c, const char *line)
{
    struct session *s = c->mine;
    s->messages = atol(line + 4);
    s->current = 0;
    if (order.what == POLL)
        command(c, UIDL);
    else
        command(c, order.what == DRAIN && s->messages ? RETR : QUIT);
}

static void after_text(struct connection *c)
{
    struct session *s = c->mine;
    if (s->state == UIDL) {
        command(c, LIST);
        return;
    }
    if (s->state == LIST) {
        command(c, QUIT);
        return;
    }
    fetched++;
    if (s->current < s->messages)
        command(c, RETR);
    else {
        s->current = 0;
        command(c, DELE);
    }
}

static void on_line(struct connection *c, char *line)
{
    struct session *s = c->mine;
    if (*line != '+') {
        report_failure(&report, names[s->state], line);
        c->leaving = true;
        hang_up(c, NULL);
        return;
    }
    switch (s->state) {
    case GREETING:
        if (opened < order.sessions)
            open_session();
        command(c, USER);
        break;
    case USER:
        command(c, PASS);
        break;
    case PASS:
        command(c, STAT);
        break;
    case STAT:
        after_stat(c, line);
        break;
    case UIDL:
    case LIST:
    case RETR:
        multiline(c);
        break;
    case DELE:
        command(c, s->current < s->messages ? DELE : QUIT);
        break;
    case QUIT:
        report.done++;
        report_time(&report, now() - s->begun);
        hang_up(c, NULL);
        break;
    }
}

static size_t on_block(struct connection *c, const char *data, size_t size)
{
    size_t used = multiline_end(c, data, size);
    if (!c->raw) {
        loop_moved();
        after_text(c);
    }
    return used;
}

static void on_lost(struct connection *c, const char *why)
{
    struct session *s = c->mine;
    if (why)
        report_failure(&report, names[s->state], why);
    resting[rested++ % order.users] = s->user;
    loop_moved();
    free(s);
    if (!report.failed && opened >= order.sessions && started < order.count)
        open_session();
}

static const struct manner manner = {.line = on_line, .block = on_block, .lost = on_lost};

static void open_session(void)
{
    if (started == order.count)
        return;
    struct session *s = calloc(1, sizeof *s);
    s->user = resting[taken++ % order.users];
    s->begun = now();
    started++;
    opened++;
    connect_to(order.port, &manner, s);
}

int pop3_load(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    order.port = atoi(argv[0]);
    order.sessions = atoi(argv[1]);
    order.count = atol(argv[2]);
    order.users = atoi(argv[3]);
    order.what = !strcmp(argv[4], "drain") ? DRAIN : !strcmp(argv[4], "login") ? LOGIN : POLL;
    if (order.sessions > order.users) {
        fprintf(stderr, "more sessions than users\n");
        return 2;
    }
    resting = calloc(order.users, sizeof *resting);
    for (int user = 0; user < order.users; user++)
        resting[rested++] = user;
    loop_start();
    report_start(&report);
    for (int i = 0; i < AT_ONCE && i < order.sessions; i++)
        open_session();
    bool finished = loop_run(PATIENCE);
    if (order.what == DRAIN)
        report.done = fetched;
    return report_end(&report, finished);
}
